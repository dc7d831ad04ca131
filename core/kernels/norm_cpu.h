// CPU forms of norm.h for float32 and float64: one pass over a row and its gradient each, where ATen makes
// several (its RMSNorm is six operations, its gradient about ten). Contiguous tensors; sums over rows in a
// fixed order, whatever the number of threads.
#pragma once

#include "core/base/torch.h"
#include "core/kernels/norm_cuda.h"

namespace fwl::cpu {

bool has_add_norm(const Tensor& x);

// As their namesakes in norm_cuda.h.
cuda::AddNormForward add_norm(const Tensor& x, const Tensor& delta, const Tensor& scale_d,
                              const Tensor& bias_d, double epsilon);
cuda::AddNormBackward add_norm_backward(const Tensor& sum, const Tensor& scale_d, const Tensor& mean_n,
                                        const Tensor& inverse_sigma_n, const Tensor& norm_bar,
                                        const Tensor& sum_bar);

}  // namespace fwl::cpu
