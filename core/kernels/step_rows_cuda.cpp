#include "core/kernels/step_rows_cuda.h"

#include <algorithm>

#include "core/kernels/launch_cuda.h"
#include "core/kernels/matmul.h"
#include "core/kernels/partial_sums.cu.h"
#include "core/kernels/step_rows.cu.h"

namespace fwl::cuda {
namespace {

int64_t rows_of(const Tensor& r) {
  return r.numel() / r.size(-1);
}

}  // namespace

Tensor step_rows(const Tensor& any_x, const Tensor& any_r, const Tensor& any_scale_k) {
  const Tensor x = on_vectors(any_x), r = on_vectors(any_r), scale_k = on_vectors(any_scale_k);
  Tensor y = at::empty_like(x);
  check_launch(
      launch_step_rows(scalar_type_of(r), x.const_data_ptr(), r.const_data_ptr(), scale_k.const_data_ptr(),
                       y.data_ptr(), rows_of(r), r.size(-1), c10::cuda::getCurrentCUDAStream()),
      "step_rows");
  return y;
}

StepRowsBackward step_rows_backward(const Tensor& any_y_bar, const Tensor& any_r, const Tensor& any_scale_k) {
  constexpr int64_t kMostPartials = 264;
  const Tensor y_bar = on_vectors(any_y_bar), r = on_vectors(any_r), scale_k = on_vectors(any_scale_k);
  const int64_t rows = rows_of(r), width = r.size(-1), partials = std::min(rows, kMostPartials);
  const Tensor partial = at::empty({partials, width}, r.options().dtype(accumulate_type(r.scalar_type())));
  StepRowsBackward b{at::empty_like(r), at::empty_like(scale_k)};
  check_launch(launch_step_rows_backward(scalar_type_of(r), y_bar.const_data_ptr(), r.const_data_ptr(),
                                         scale_k.const_data_ptr(), b.r_bar.data_ptr(), partial.data_ptr(),
                                         partials, rows, width, c10::cuda::getCurrentCUDAStream()),
               "step_rows_backward");
  check_launch(
      launch_sum_partials(scalar_type_of(scale_k), partial.const_data_ptr(), b.scale_bar_k.data_ptr(), 1,
                          partials, width, c10::cuda::getCurrentCUDAStream()),
      "sum_partials");
  return b;
}

}  // namespace fwl::cuda
