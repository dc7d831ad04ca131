#include "core/kernels/rotary_cuda.h"

#include <array>

#include "core/kernels/launch_cuda.h"
#include "core/kernels/rotary.cu.h"

namespace fwl::cuda {
namespace {

QkvShape shape_of(at::IntArrayRef sizes) {
  return {sizes[0], sizes[1], sizes[3], sizes[4]};
}

Strided strided(const Tensor& x_bhte) {
  if (!x_bhte.defined()) return {nullptr, 0, 0, 0};
  return {x_bhte.const_data_ptr(), x_bhte.stride(0), x_bhte.stride(1), x_bhte.stride(2)};
}

}  // namespace

void rotate_queries_keys_(Tensor& qkv_bt3he, const RotaryTable& table, Turn turn) {
  check_launch(launch_rotate_queries_keys(scalar_type_of(qkv_bt3he), qkv_bt3he.data_ptr(),
                                          table.cosine_te.const_data_ptr(), table.sine_te.const_data_ptr(),
                                          turn == Turn::kBack, shape_of(qkv_bt3he.sizes()),
                                          c10::cuda::getCurrentCUDAStream()),
               "rotate_queries_keys");
}

Tensor gather_qkv_gradient(const Tensor& q_bar_bhte, const Tensor& k_bar_bhte, const Tensor& v_bar_bhte,
                           const RotaryTable& table, at::IntArrayRef qkv_sizes,
                           const at::TensorOptions& options) {
  const auto dense_rows = [](const Tensor& t) {
    return t.defined() && t.stride(3) != 1 ? t.contiguous() : t;
  };
  const std::array<Tensor, 3> bars = {dense_rows(q_bar_bhte), dense_rows(k_bar_bhte), dense_rows(v_bar_bhte)};
  const std::array<Strided, 3> parts = {strided(bars[0]), strided(bars[1]), strided(bars[2])};
  Tensor qkv_bar = at::empty(qkv_sizes, options);
  check_launch(
      launch_gather_qkv_gradient(scalar_type_of(qkv_bar), parts.data(), pointer_or_null(table.cosine_te),
                                 pointer_or_null(table.sine_te), qkv_bar.data_ptr(), shape_of(qkv_sizes),
                                 c10::cuda::getCurrentCUDAStream()),
      "gather_qkv_gradient");
  return qkv_bar;
}

}  // namespace fwl::cuda
