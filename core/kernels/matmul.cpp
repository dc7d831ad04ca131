#include "core/kernels/matmul.h"

namespace fwl {

at::ScalarType accumulate_type(at::ScalarType type) {
  return type == at::kBFloat16 ? at::kFloat : type;
}

Tensor batched_product_accumulate(const Tensor& a_bnk, const Tensor& b_bkm) {
  if (a_bnk.scalar_type() != at::kBFloat16) return at::bmm(a_bnk, b_bkm);
  if (a_bnk.is_cuda()) return at::bmm(a_bnk, b_bkm, at::kFloat);
  return at::bmm(a_bnk, b_bkm).to(at::kFloat);
}

Tensor product_accumulate(const Tensor& a_nk, const Tensor& b_km) {
  if (a_nk.scalar_type() != at::kBFloat16) return at::mm(a_nk, b_km);
  if (a_nk.is_cuda()) return at::mm(a_nk, b_km, at::kFloat);
  return at::mm(a_nk, b_km).to(at::kFloat);
}

void add_product_(Tensor& sum_nm, const Tensor& a_nk, const Tensor& b_km) {
  if (a_nk.scalar_type() != at::kBFloat16) {
    sum_nm.addmm_(a_nk, b_km);
  } else if (a_nk.is_cuda()) {
    at::addmm_out(sum_nm, sum_nm, a_nk, b_km, at::kFloat);
  } else {
    sum_nm.add_(at::mm(a_nk, b_km));
  }
}

}  // namespace fwl
