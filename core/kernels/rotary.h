// Rotary positions (Su et al. 2021) on queries and keys where the projection left them. CUDA kernels:
// rotary.cu; elsewhere ATen operations. The first half of a head's elements is rotated with the second.
#pragma once

#include "core/base/torch.h"

namespace fwl {

// Angles of T positions, in the accumulation type.
struct RotaryTable {
  Tensor cosine_te, sine_te;  // [T, head_dim / 2]; undefined: no rotary positions
};
// `options`: device and type of the table. The last one asked for is kept: a training step's are all the
// same.
RotaryTable rotary_table(int64_t first_position, int64_t length, int64_t head_dim, double base,
                         at::TensorOptions options);
// x [B, H, T, E], rotated; computed in the table's type, returned in x's.
Tensor rotate(const Tensor& x_bhte, const RotaryTable& table);

enum class Turn { kForward, kBack };
// Rotates the queries and keys of qkv [B, T, 3, H, E] (contiguous) in place.
void rotate_queries_keys_(Tensor& qkv_bt3he, const RotaryTable& table, Turn turn = Turn::kForward);
// The gradient [B, T, 3, H, E] of a projection's output from those of its rotated parts, each [B, H, T, E] in
// any strides, undefined for zero. Parts that lie side by side in such a tensor already are rotated there,
// when nobody but the caller holds them: it gives them up (not so from a vector that was passed by value).
Tensor gather_qkv_gradient(const Tensor& q_bar_bhte, const Tensor& k_bar_bhte, const Tensor& v_bar_bhte,
                           const RotaryTable& table, at::IntArrayRef qkv_sizes,
                           const at::TensorOptions& options);

}  // namespace fwl
