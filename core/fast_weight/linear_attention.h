// Decayed, strictly causal linear attention in chunks: the fast-weight update and its application.
//
// For a sequence of T positions with keys k, values v, queries q and decay rho = exp(log_decay) <= 1
//   O_t = S_t q_t,   S_t = sum_{i<t} rho^(t-1-i) v_i k_i^T  (+ rho^t S_in)
// Within a chunk of C positions the sum is a masked product of matrices; between chunks the state S travels.
// Every exponent is >= 0, so nothing overflows. The chunk size has no effect on the result beyond rounding.
// A document start at position t cuts the sum: nothing before t is seen at t or later.
//
// The sum is taken apart where a sequence is: what the shard's own positions give (`local_states`, which
// needs no queries, then `attend_local`), and what came before the shard (`attend_inbound`). So the state
// before the shard can be on its way from other ranks while the shard's own part is computed. The backward
// sweeps the chunks twice, from the left for queries and from the right for keys and values. State and decay
// are kept in the accumulation type (float32 under bfloat16).
//
// Shape suffixes: b batch, t position, k key dim, v value dim, g chunk of the sequence, c, i, j position in a
// chunk, n chunk of the batch (b and g flattened).
#pragma once

#include <optional>

#include "core/base/torch.h"

namespace fwl {

// How a shard of T positions lets the state before it through. The leading dim is 1 when no document starts
// inside. Differentiable in log_decay.
struct ShardDecay {
  Tensor inbound_bt1;  // rho^t before the first document start, else 0: what position t sees of it
  Tensor
      outbound_bt1;  // rho^(T-1-t) in the last document: what is left of position t at the end. No gradient
  Tensor carry_b11;  // rho^T, or 0 where a document starts: what is left of it at the end
};
// log_decay: scalar, float64 where its gradient matters (large terms cancel in it). document_start_bt: bool,
// or undefined when no document starts. `type`: the accumulation type, that of the result.
ShardDecay shard_decay(const Tensor& log_decay, const Tensor& document_start_bt, int64_t length,
                       at::ScalarType type);

// The states that the shard's own positions make, from zero.
struct LocalStates {
  Tensor
      starts_nvk;    // at the start of every chunk, dtype of v; a constant for autograd; undefined: one chunk
  Tensor total_bvk;  // after the last position, accumulation type; differentiable in k, v, log_decay
};
// k_btk, v_btv: one dtype. Without `decay` the total is not computed.
LocalStates local_states(const Tensor& k_btk, const Tensor& v_btv, const Tensor& log_decay,
                         const Tensor& document_start_bt, const std::optional<ShardDecay>& decay,
                         int64_t chunk);

// The chunk of least time for such keys and values on `device`. A chunk costs products that grow with it, and
// a state each, whose memory traffic a GPU feels; short sequences are one chunk.
int64_t fastest_chunk(int64_t length, int64_t key_dim, int64_t value_dim, at::Device device);

// The least length from `length` on, a multiple of 128, of which fastest_chunk() on a GPU leaves nothing
// over; at most a few hundred more. For who may pad.
int64_t length_of_whole_chunks(int64_t length);

// Keys whose scores are computed for a query within a chunk, on average: blocks above the diagonal are left
// out.
double computed_keys(int64_t chunk);

// sum_{i<t} over the shard's own positions, [B, T, v] in the dtype of v. `states` are those of the same k, v
// and chunk. Differentiable in q, k, v and log_decay.
Tensor attend_local(const Tensor& q_btk, const Tensor& k_btk, const Tensor& v_btv, const Tensor& log_decay,
                    const Tensor& document_start_bt, const LocalStates& states, int64_t chunk);
// rho^t S_in q_t, [B, T, v] in the dtype of q. Differentiable in all three.
Tensor attend_inbound(const Tensor& q_btk, const Tensor& inbound_bvk, const ShardDecay& decay);

}  // namespace fwl
