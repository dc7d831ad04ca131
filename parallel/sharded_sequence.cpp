#include "parallel/sharded_sequence.h"

#include <algorithm>

#include "core/base/error.h"

namespace fwl {
namespace {

std::vector<Tensor*> tensors_of(FastWeightState& state) {
  return {&state.dense1_bfd, &state.dense2_bdf, &state.norm_bd};
}

}  // namespace

ShardedSequence::ShardedSequence(Communicator& group, const ModelConfig& model, int64_t length,
                                 const SequenceExchange& exchange, Stream stream)
    : group_(group),
      length_(length),
      window_(model.window),
      attention_(choose_attention_algorithm(exchange.attention, group.size(), model.heads, model.window)),
      stream_(stream),
      states_(make_state_exchange(group, exchange.state, exchange.state_wire)),
      memory_(static_cast<size_t>(model.layers)) {
  require<ConfigError>(
      stream != Stream::kContinued || window_ <= 0 || attention_ == AttentionAlgorithm::kHalo,
      "train.stream with model.window and parallel.attention=", name_of(attention_),
      " (the memory of the last window travels with the halo exchange alone). Use "
      "parallel.attention=auto or halo.");
  require<ConfigError>(stream != Stream::kContinued || window_ - 1 <= length * group.size(),
                       "model.window = ", window_, " reaches beyond one whole sequence of ",
                       length * group.size(),
                       " tokens (a stream remembers the last sequence). Use a smaller window.");
}

Tensor ShardedSequence::attend(int64_t layer, const Tensor& q_bhle, const Tensor& k_bhle,
                               const Tensor& v_bhle, int64_t window) {
  switch (attention_) {
    case AttentionAlgorithm::kAllToAll:
      return all_to_all_attention(group_, q_bhle, k_bhle, v_bhle, window);
    case AttentionAlgorithm::kAllGather:
      return all_gather_attention(group_, q_bhle, k_bhle, v_bhle, window);
    case AttentionAlgorithm::kHalo:
      return halo_attention(group_, q_bhle, k_bhle, v_bhle, window,
                            stream_ == Stream::kContinued ? &memory_[static_cast<size_t>(layer)] : nullptr);
  }
  throw InternalError("unknown attention algorithm");
}

void ShardedSequence::arrive() const {
  if (!arriving_) return;
  arriving_->wait();
  arriving_.reset();
}

FastWeightState ShardedSequence::inbound_state() const {
  arrive();
  return is_first() ? fast_ : FastWeightState{};
}

void ShardedSequence::advance(int64_t, const FastWeightState& outbound) {
  if (stream_ == Stream::kNone) return;
  position_ += length_ * group_.size();
  arrive();
  FastWeightState sent = outbound;
  std::vector<Message> sends, receives;
  for (size_t i = 0; i < tensors_of(sent).size(); ++i) {
    Tensor& own = *tensors_of(sent)[i];
    if (!own.defined()) continue;
    own = own.contiguous();
    if (is_last()) sends.push_back({0, own});
    // A new tensor: the backward of this forward still reads the one that came in.
    if (is_first()) receives.push_back({group_.size() - 1, *tensors_of(fast_)[i] = at::empty_like(own)});
  }
  arriving_ = group_.start_exchange(sends, receives, purpose::kState);
}

StreamState ShardedSequence::stream_state() const {
  arrive();
  return {position_, is_first() ? memory_ : std::vector<AttentionMemory>(), fast_};
}

void ShardedSequence::set_stream_state(const StreamState& state) {
  arrive();
  position_ = state.position;
  fast_ = state.fast;
  // The first rank reaches `window - 1` rows back, the others as many less as positions lie between.
  const int64_t reach = std::max<int64_t>(0, window_ - 1 - group_.rank() * length_);
  for (size_t layer = 0; layer < memory_.size(); ++layer) {
    memory_[layer] = {};
    if (layer >= state.layers.size() || !state.layers[layer].key_bhte.defined() || reach == 0) continue;
    const auto last = [&](const Tensor& x) {
      const int64_t rows = std::min(reach, x.size(2));
      return x.narrow(2, x.size(2) - rows, rows).contiguous();
    };
    memory_[layer] = {last(state.layers[layer].key_bhte), last(state.layers[layer].value_bhte)};
  }
}

}  // namespace fwl
