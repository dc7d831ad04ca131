// Decayed, strictly causal linear attention in chunks: the fast-weight update and its application.
//
// For a sequence of T positions with keys k, values v, queries q and decay rho = exp(log_decay) <= 1
//   O_t = S_t q_t,   S_t = sum_{i<t} rho^(t-1-i) v_i k_i^T  (+ rho^t S_in)
// Within a chunk of C positions the sum is a masked product of matrices; between chunks the state S travels.
// Every exponent is >= 0, so nothing overflows. The chunk size has no effect on the result beyond rounding.
// A document start at position t cuts the sum: nothing before t is seen at t or later.
// fwl.md section 4 (forward, both backward sweeps, gradient of log_decay); state and decay are kept in
// the accumulation type (float32 under bfloat16).
//
// Shape suffixes: b batch, t position, k key dim, v value dim, g chunk of the sequence, c, i, j position in a
// chunk.
#pragma once

#include "core/base/torch.h"

namespace fwl {

struct LinearAttentionResult {
  Tensor out_btv;    // dtype of v
  Tensor state_bvk;  // after the last position, in the accumulation type
};

// q_btk, k_btk, v_btv: one dtype. log_decay: scalar tensor in the accumulation type. document_start_bt: bool,
// or undefined when no document starts inside. inbound_bvk: state before the first position, or undefined for
// zero. Differentiable in q, k, v, log_decay and inbound, through out and state.
LinearAttentionResult linear_attention(const Tensor& q_btk, const Tensor& k_btk, const Tensor& v_btv,
                                       const Tensor& log_decay, const Tensor& document_start_bt,
                                       const Tensor& inbound_bvk, int64_t chunk);

}  // namespace fwl
