#include "core/kernels/softmax_rows_cuda.h"

#include <cmath>

#include "core/kernels/launch_cuda.h"
#include "core/kernels/matmul.h"
#include "core/kernels/softmax_rows.cu.h"

namespace fwl::cuda {
namespace {

void check_rows(const Tensor& logits_nv, const Tensor& label_n, const Tensor& weight_n) {
  const auto accumulate = accumulate_type(logits_nv.scalar_type());
  require<InternalError>(logits_nv.dim() == 2 && logits_nv.is_contiguous() && label_n.is_contiguous() &&
                             weight_n.is_contiguous() && label_n.scalar_type() == at::kLong &&
                             weight_n.scalar_type() == accumulate && label_n.numel() == logits_nv.size(0) &&
                             weight_n.numel() == logits_nv.size(0),
                         "softmax_rows got logits ", logits_nv.sizes(), ", labels ", label_n.sizes(),
                         ", weights ", weight_n.sizes());
}

}  // namespace

Tensor cross_entropy_gradient_(Tensor& logits_nv, const Tensor& label_n, const Tensor& weight_n) {
  check_rows(logits_nv, label_n, weight_n);
  Tensor nll_n = at::empty_like(weight_n);
  check_launch(launch_cross_entropy_gradient(scalar_type_of(logits_nv), logits_nv.data_ptr(),
                                             label_n.const_data_ptr<int64_t>(), weight_n.const_data_ptr(),
                                             nll_n.data_ptr(), {}, logits_nv.size(0), logits_nv.size(1),
                                             c10::cuda::getCurrentCUDAStream()),
               "cross_entropy_gradient");
  return nll_n;
}

Tensor cross_entropy_errors_(Tensor& logits_nv, const Tensor& label_n, double threshold,
                             const LikelyTokens& likely) {
  Tensor nll_n =
      at::empty({logits_nv.size(0)}, logits_nv.options().dtype(accumulate_type(logits_nv.scalar_type())));
  check_rows(logits_nv, label_n, nll_n);
  check_launch(
      launch_cross_entropy_gradient(scalar_type_of(logits_nv), logits_nv.data_ptr(),
                                    label_n.const_data_ptr<int64_t>(), nullptr, nll_n.data_ptr(),
                                    {likely.token_nk.data_ptr<int32_t>(), likely.probability_nk.data_ptr(),
                                     likely.token_nk.size(1), std::log(threshold)},
                                    logits_nv.size(0), logits_nv.size(1), c10::cuda::getCurrentCUDAStream()),
      "cross_entropy_errors");
  return nll_n;
}

Tensor cross_entropy(const Tensor& logits_nv, const Tensor& label_n) {
  Tensor nll_n =
      at::empty({logits_nv.size(0)}, logits_nv.options().dtype(accumulate_type(logits_nv.scalar_type())));
  check_rows(logits_nv, label_n, nll_n);
  check_launch(launch_cross_entropy(scalar_type_of(logits_nv), logits_nv.const_data_ptr(),
                                    label_n.const_data_ptr<int64_t>(), nll_n.data_ptr(), logits_nv.size(0),
                                    logits_nv.size(1), c10::cuda::getCurrentCUDAStream()),
               "cross_entropy");
  return nll_n;
}

void cross_entropy_gradient_backward_(Tensor& logits_nv, Tensor& error_bar_nv, const Tensor& label_n,
                                      const Tensor& weight_n, const Tensor& nll_n, const Tensor& nll_bar_n) {
  check_rows(logits_nv, label_n, weight_n);
  check_rows(error_bar_nv, label_n, nll_bar_n);
  check_rows(error_bar_nv, label_n, nll_n);
  check_launch(launch_cross_entropy_gradient_backward(
                   scalar_type_of(logits_nv), logits_nv.data_ptr(), error_bar_nv.data_ptr(),
                   label_n.const_data_ptr<int64_t>(), weight_n.const_data_ptr(), nll_n.const_data_ptr(),
                   nll_bar_n.const_data_ptr(), logits_nv.size(0), logits_nv.size(1),
                   c10::cuda::getCurrentCUDAStream()),
               "cross_entropy_gradient_backward");
}

void cross_entropy_residual_backward_(const Tensor& residual_nv, Tensor& error_bar_nv, const Tensor& label_n,
                                      const Tensor& weight_n, const Tensor& nll_bar_n) {
  check_rows(residual_nv, label_n, weight_n);
  check_rows(error_bar_nv, label_n, nll_bar_n);
  check_launch(launch_cross_entropy_residual_backward(
                   scalar_type_of(residual_nv), residual_nv.const_data_ptr(), error_bar_nv.data_ptr(),
                   label_n.const_data_ptr<int64_t>(), weight_n.const_data_ptr(), nll_bar_n.const_data_ptr(),
                   residual_nv.size(0), residual_nv.size(1), c10::cuda::getCurrentCUDAStream()),
               "cross_entropy_residual_backward");
}

}  // namespace fwl::cuda
