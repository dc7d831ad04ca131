// Residual addition and normalisation in one pass over the rows, and the same for their gradients. CUDA
// kernels: norm.cu; elsewhere, and for rows that are no whole vectors, ATen operations. Statistics and sums
// are taken in float32 (float64 for float64).
#pragma once

#include "core/base/torch.h"

namespace fwl {

struct AddNorm {
  Tensor sum;   // x + delta, or x: to go on with, so that its gradient is added in the norm's pass
  Tensor norm;  // LayerNorm of the sum, or RMSNorm where there is no bias
};

// x, delta: [..., d] of one type; delta may be undefined. scale_d; bias_d: undefined for RMSNorm.
// Differentiable in all of them.
AddNorm add_norm(const Tensor& x, const Tensor& delta, const Tensor& scale_d, const Tensor& bias_d,
                 double epsilon);

// Whether rows of such a tensor have CUDA kernels.
bool has_norm_kernels(const Tensor& x);

}  // namespace fwl
