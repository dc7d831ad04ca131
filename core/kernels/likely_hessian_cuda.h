// CUDA forms of likely_hessian.h; in a build without CUDA they throw ConfigError (no_cuda_kernels.cpp). All
// tensors are contiguous; `result` has its shapes.
#pragma once

#include "core/kernels/likely_hessian.h"

namespace fwl::cuda {

void likely_hessian(const Tensor& residual_nv, const Tensor& label_n, const Tensor& weight_n,
                    const Tensor& u_nd, const Tensor& mean_n, const Tensor& unembedding_vd, double threshold,
                    LikelyHessian& result);
void add_listed_products_(Tensor& sum_vd, const LikelyHessian& hessian, const Tensor& x_nd);

}  // namespace fwl::cuda
