// CUDA form of token_sums.h; in a build without CUDA it throws ConfigError (no_cuda_kernels.cpp). All tensors
// are contiguous.
#pragma once

#include "core/base/torch.h"

namespace fwl::cuda {

void add_token_sums_(Tensor& sum_vd, const Tensor& token_nk, const Tensor& factor_nk, const Tensor& x_nd);

}  // namespace fwl::cuda
