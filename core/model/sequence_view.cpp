#include "core/model/sequence_view.h"

#include <algorithm>

namespace fwl {

StreamState rows_of(const StreamState& state, int64_t first, int64_t count) {
  const auto part = [&](const Tensor& t) { return t.defined() ? t.narrow(0, first, count).contiguous() : t; };
  StreamState rows;
  rows.position = state.position;
  for (const AttentionMemory& m : state.layers) rows.layers.push_back({part(m.key_bhte), part(m.value_bhte)});
  rows.fast = {part(state.fast.dense1_bfd), part(state.fast.dense2_bdf), part(state.fast.norm_bd)};
  return rows;
}

ContinuedSequence::ContinuedSequence(FullAttention full_attention, WindowMemory window_memory)
    : full_attention_(full_attention), window_memory_(window_memory) {}

Tensor ContinuedSequence::attend(int64_t layer, const Tensor& q_bhte, const Tensor& k_bhte,
                                 const Tensor& v_bhte, int64_t window) {
  const bool forgets =
      window > 0 ? window_memory_ == WindowMemory::kForgotten : full_attention_ == FullAttention::kForgets;
  if (forgets) return causal_attention(q_bhte, k_bhte, v_bhte, window);
  if (state_.layers.size() <= static_cast<size_t>(layer))
    state_.layers.resize(static_cast<size_t>(layer) + 1);
  AttentionMemory& memory = state_.layers[static_cast<size_t>(layer)];
  const bool empty = !memory.key_bhte.defined();
  const Tensor key_bhte = empty ? k_bhte : at::cat({memory.key_bhte, k_bhte}, 2);
  const Tensor value_bhte = empty ? v_bhte : at::cat({memory.value_bhte, v_bhte}, 2);
  const int64_t keys = key_bhte.size(2), kept = window > 0 ? std::min(keys, window - 1) : keys;
  // A copy: a view would keep all of this forward's keys alive.
  const auto last = [&](const Tensor& x) { return x.narrow(2, keys - kept, kept).detach().clone(); };
  memory = window > 0 ? AttentionMemory{last(key_bhte), last(value_bhte)}
                      : AttentionMemory{key_bhte.detach(), value_bhte.detach()};
  return causal_attention(q_bhte, key_bhte, value_bhte, window);
}

void ContinuedSequence::advance(int64_t length, const FastWeightState& outbound) {
  state_.position += length;
  state_.fast = outbound;
}

}  // namespace fwl
