// CUDA forms of norm.h and of core/fast_weight/norm_gradient.h; in a build without CUDA they throw
// ConfigError (no_cuda_kernels.cpp). Rows: the last dim of contiguous tensors.
#pragma once

#include "core/base/torch.h"

namespace fwl::cuda {

struct AddNormForward {
  Tensor sum, norm;                // sum: x itself without a delta
  Tensor mean_n, inverse_sigma_n;  // mean_n: undefined for RMSNorm
};
AddNormForward add_norm(const Tensor& x, const Tensor& delta, const Tensor& scale_d, const Tensor& bias_d,
                        double epsilon);

struct AddNormBackward {
  Tensor x_bar, scale_bar_d, bias_bar_d;  // of the sum, and with it of x and of delta; sums in scale's type
};
AddNormBackward add_norm_backward(const Tensor& sum, const Tensor& scale_d, const Tensor& mean_n,
                                  const Tensor& inverse_sigma_n, const Tensor& norm_bar,
                                  const Tensor& sum_bar);

struct NormGradientForward {
  Tensor g_nd, mean_n, inverse_sigma_n;
};
NormGradientForward norm_gradient(const Tensor& o_nd, const Tensor& scale_d, const Tensor& q_nd,
                                  double epsilon);
struct NormGradientBackward {
  Tensor o_bar_nd, scale_bar_d, q_bar_nd;
};
NormGradientBackward norm_gradient_backward(const Tensor& o_nd, const Tensor& scale_d, const Tensor& q_nd,
                                            const NormGradientForward& forward, const Tensor& g_bar_nd);

}  // namespace fwl::cuda
