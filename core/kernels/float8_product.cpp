#include "core/kernels/float8_product.h"

#include <limits>

#include "core/base/device.h"
#include "core/base/error.h"

namespace fwl {
namespace {

constexpr double kLargest = 448;  // of e4m3
constexpr double kSmallestScale = 0x1p-100;
constexpr int64_t kWholeVectors = 16;  // 16 bytes, which the products of 8-bit floats want

Tensor rounded(const Tensor& x) {
  return x.clamp(-kLargest, kLargest).to(at::kFloat8_e4m3fn);
}

}  // namespace

bool multiplies_float8(const Tensor& weight_vd) {
  return weight_vd.is_cuda() && weight_vd.scalar_type() == at::kBFloat16 &&
         weight_vd.size(0) % kWholeVectors == 0 && weight_vd.size(1) % kWholeVectors == 0 &&
         gpu_multiplies_float8(weight_vd.device());
}

Float8Rows float8_rows(const Tensor& weight_vd) {
  require<InternalError>(!at::GradMode::is_enabled(), "float8_rows has no gradient");
  const Tensor largest = at::linalg_vector_norm(weight_vd, std::numeric_limits<double>::infinity());
  // A power of two: dividing by it rounds nothing. Above 0, for zeros alone.
  const Tensor scale = (largest.to(at::kFloat) / kLargest).clamp_min(kSmallestScale).log2_().ceil_().exp2_();
  const Tensor rows_vd = rounded(weight_vd / scale);
  if (multiplies_float8(weight_vd)) return {rows_vd, scale};
  return {rows_vd.to(weight_vd.scalar_type()) * scale.to(weight_vd.scalar_type()), {}};
}

void float8_product_out(Tensor& out_nv, const Tensor& x_nd, const Float8Rows& weight) {
  const Tensor x8_nd = rounded(x_nd), weight_dv = weight.rows_vd.t();
  if (!weight.scale.defined()) {
    at::mm_out(out_nv, x8_nd.to(x_nd.scalar_type()), weight_dv);
    return;
  }
  at::_scaled_mm_out(out_nv, x8_nd, weight_dv, at::ones_like(weight.scale), weight.scale, {}, {},
                     out_nv.scalar_type(), /*use_fast_accum=*/true);
}

}  // namespace fwl
