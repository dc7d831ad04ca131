// The inner backward of a layer norm, as a differentiable operation.
#pragma once

#include "core/base/torch.h"

namespace fwl {

// With n = scale * xhat(o) + bias and q = dl/dn: g = dl/do = A(o) (scale * q), where
//   A v = (v - mean(v) - xhat mean(v * xhat)) / sigma,   sigma^2 = variance(o) + epsilon (biased).
// Differentiable in o, scale and q: its backward holds the norm's second derivative. o, q: [n, d]; scale:
// [d]; one dtype.
Tensor layer_norm_gradient(const Tensor& o_nd, const Tensor& scale_d, const Tensor& q_nd, double epsilon);

}  // namespace fwl
