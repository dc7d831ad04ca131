// CUDA forms of softmax_rows.h; in a build without CUDA they throw ConfigError (no_cuda_kernels.cpp).
#pragma once

#include "core/kernels/likely_tokens.h"

namespace fwl::cuda {

Tensor cross_entropy_gradient_(Tensor& logits_nv, const Tensor& label_n, const Tensor& weight_n);
Tensor cross_entropy_errors_(Tensor& logits_nv, const Tensor& label_n, double threshold,
                             const LikelyTokens& likely);
Tensor cross_entropy(const Tensor& logits_nv, const Tensor& label_n);
void cross_entropy_gradient_backward_(Tensor& logits_nv, Tensor& error_bar_nv, const Tensor& label_n,
                                      const Tensor& weight_n, const Tensor& nll_n, const Tensor& nll_bar_n);

void cross_entropy_residual_backward_(const Tensor& residual_nv, Tensor& error_bar_nv, const Tensor& label_n,
                                      const Tensor& weight_n, const Tensor& nll_bar_n);

}  // namespace fwl::cuda
