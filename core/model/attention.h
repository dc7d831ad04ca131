// Causal self-attention with rotary positions, full or over a sliding window.
// Shape suffixes: b batch, h head, t position, e head dim, d width.
#pragma once

#include "core/base/torch.h"

namespace fwl {

// Rotates pairs (x[e], x[e + E/2]) of every head by position * base^(-2e/E) (Su et al. 2021, in the
// half-split layout). Tables for positions [first, first + length).
struct RotaryTable {
  Tensor cosine_te, sine_te;  // [T, E/2]
};
RotaryTable rotary_table(int64_t first_position, int64_t length, int64_t head_dim, double base,
                         at::TensorOptions options);
Tensor rotate(const Tensor& x_bhte, const RotaryTable& table);

// Keys and values of earlier positions of one attention layer (rotated keys). Without gradient.
struct AttentionMemory {
  Tensor key_bhte, value_bhte;  // undefined: nothing seen yet
};

// softmax(q k^T / sqrt(E)) v over positions j <= i, and i - j < window when window > 0. The queries are those
// of the LAST positions of the keys: q [B, H, T, E], k and v [B, H, T', E] with T' >= T.
Tensor causal_attention(const Tensor& q_bhte, const Tensor& k_bhte, const Tensor& v_bhte, int64_t window);

}  // namespace fwl
