// The matrix products of a transformer block with what stands right beside them (rotary positions,
// activation) as one differentiable operation each: less is kept for the backward pass and fewer passes go
// over memory.
#pragma once

#include "core/kernels/activation.h"
#include "core/kernels/rotary.h"

namespace fwl {

struct Projection {
  Tensor weight;  // [out, in]
  Tensor bias;    // [out], or undefined
};

struct AttentionInputs {
  Tensor q_bhte, k_bhte, v_bhte;  // views of one [B, T, 3, H, E]
};
// x [B, T, d] W^T, split into heads, queries and keys rotated (not, when the table is empty).
AttentionInputs project_qkv(const Tensor& x_btd, const Projection& qkv, int64_t heads,
                            const RotaryTable& table);

// down(phi(up(x))), [B, T, d] -> [B, T, d]. Keeps x and up(x); phi is computed again in the backward pass.
Tensor feed_forward(const Tensor& x_btd, const Projection& up, const Projection& down, Activation kind);

}  // namespace fwl
