// CUDA forms of likely_hessian.h; in a build without CUDA they throw ConfigError (no_cuda_kernels.cpp). All
// tensors are contiguous; `result` has its shapes.
#pragma once

#include "core/kernels/likely_hessian.h"

namespace fwl::cuda {

void likely_hessian(const LikelyTokens& likely, const InnerLossRows& rows, const Tensor& unembedding_vd,
                    LikelyHessian& result);

}  // namespace fwl::cuda
