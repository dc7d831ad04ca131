// CUDA form of likely_gradient.h; in a build without CUDA it throws ConfigError (no_cuda_kernels.cpp).
#pragma once

#include "core/kernels/likely_gradient.h"

namespace fwl::cuda {

LikelyGradient likely_gradient(const Tensor& logits_nv, const Tensor& label_n, const Tensor& unembedding_vd,
                               const Tensor& rest_row_d, double threshold, const Tensor& weight_n);

}  // namespace fwl::cuda
