#include "core/fast_weight/fast_tensors.h"

namespace fwl {
namespace {

// One part of x a head along `dim`; undefined ones of an undefined x.
std::vector<Tensor> split_heads(const Tensor& x, const std::vector<int64_t>& widths, int64_t dim) {
  if (!x.defined()) return std::vector<Tensor>(widths.size());
  return widths.size() == 1 ? std::vector<Tensor>{x} : at::split_with_sizes(x, widths, dim);
}
Tensor join_heads(const std::vector<Tensor>& parts, int64_t dim) {
  return parts.size() == 1 ? parts.front() : at::cat(parts, dim);
}
Tensor decay_of(const Tensor& log_decay, size_t head) {
  return log_decay.dim() == 0 ? log_decay : log_decay.select(0, static_cast<int64_t>(head));
}

Tensor with_inbound(const Tensor& local_btv, const Tensor& query_btk, const Tensor& inbound_bvk,
                    const std::optional<ShardDecay>& decay) {
  return inbound_bvk.defined() ? local_btv + attend_inbound(query_btk, inbound_bvk, *decay) : local_btv;
}

// After the last position, from what is before the first.
Tensor outbound_state(const LocalStates& local, const std::optional<ShardDecay>& decay,
                      const Tensor& inbound_bvk) {
  return inbound_bvk.defined() ? local.total_bvk + decay->carry_b11 * inbound_bvk : local.total_bvk;
}

}  // namespace

FastTensors::FastTensors(const FastWeightWeights& w, const FastWeightOptions& options,
                         const LossTokens& tokens, const KeysAndValues& learned,
                         const FastWeightState& inbound, StateExchange* exchange, bool wants_state)
    : fast_biases_(options.fast_biases),
      has_total_(wants_state || exchange != nullptr),
      chunk_(options.chunk),
      heads_(decay_heads(w)),
      tokens_(tokens),
      exchange_(exchange) {
  if (options.fast_layers == FastLayers::kBoth)
    add_first(learned.key1_btd, learned.value1_btf, w.log_decay1, inbound.dense1_bfd);
  add_second(learned.key2_btf, learned.value2_btd, w.log_decay2, inbound.dense2_bdf);
  if (options.fast_norm) {
    const Tensor& value = learned.norm_value_bt2d;
    const Tensor ones_bt1 = at::ones({value.size(0), value.size(1), 1}, value.options());
    norm_.push_back(make_head(ones_bt1, value, w.log_decay_norm, inbound.norm_bd));
  }
}

FastTensors::Head FastTensors::make_head(const Tensor& key, const Tensor& value, const Tensor& log_decay,
                                         const Tensor& given) const {
  Head head{key, value, log_decay, chunk_, {}, {}, given, given};
  const Tensor& starts = tokens_.document_start_bt;
  if (head.chunk <= 0) head.chunk = fastest_chunk(key.size(1), key.size(2), value.size(2), key.device());
  if (has_total_ || given.defined())
    head.decay = shard_decay(log_decay, starts, key.size(1), tokens_.weight_bt.scalar_type());
  head.local =
      local_states(key, value, log_decay, starts, has_total_ ? head.decay : std::nullopt, head.chunk);
  return head;
}

void FastTensors::add_first(const Tensor& key_btd, const Tensor& value_btf, const Tensor& log_decay,
                            const Tensor& given_bfd) {
  const std::vector<int64_t> widths = head_widths(value_btf.size(-1), heads_);
  const std::vector<Tensor> values = split_heads(value_btf, widths, -1),
                            given = split_heads(given_bfd, widths, 1);
  const Tensor key = with_bias_input(key_btd);
  for (size_t j = 0; j < widths.size(); ++j)
    first_.push_back(make_head(key, values[j], decay_of(log_decay, j), given[j]));
}

void FastTensors::add_second(const Tensor& key_btf, const Tensor& value_btd, const Tensor& log_decay,
                             const Tensor& given_bdf) {
  const std::vector<Tensor> keys = second_inputs(key_btf);
  const std::vector<Tensor> given =
      split_heads(given_bdf, head_widths(key_btf.size(-1), heads_, fast_biases_ ? 1 : 0), 2);
  for (size_t j = 0; j < keys.size(); ++j)
    second_.push_back(make_head(keys[j], value_btd, decay_of(log_decay, j), given[j]));
}

std::vector<FastTensors::Head*> FastTensors::all() {
  std::vector<Head*> list;
  for (auto* heads : {&first_, &second_, &norm_})
    for (Head& head : *heads) list.push_back(&head);
  return list;
}

// A constant 1 joins queries and keys when biases are fast: its score adds every earlier value once.
Tensor FastTensors::with_bias_input(const Tensor& x_btk) const {
  return fast_biases_ ? at::constant_pad_nd(x_btk, {0, 1}, 1) : x_btk;
}

// Inputs of the second dense layer, a part a head.
std::vector<Tensor> FastTensors::second_inputs(const Tensor& act_btf) const {
  std::vector<Tensor> parts = split_heads(act_btf, head_widths(act_btf.size(-1), heads_), -1);
  parts.back() = with_bias_input(parts.back());
  return parts;
}

void FastTensors::start_exchange() {
  if (exchange_ == nullptr) return;
  std::vector<ShardState> shards;
  for (const Head* head : all())
    shards.push_back({outbound_state(head->local, head->decay, head->given_bvk), head->decay->carry_b11});
  exchange_->start(shards);
}

void FastTensors::finish_exchange() {
  if (exchange_ == nullptr) return;
  const std::vector<Tensor> before = exchange_->finish();
  const std::vector<Head*> list = all();
  for (size_t i = 0; i < list.size(); ++i)
    list[i]->inbound_bvk = list[i]->given_bvk.defined() ? before[i] + list[i]->given_bvk : before[i];
}

Tensor FastTensors::local_part(const Tensor& query_btk, const Head& head) const {
  return attend_local(query_btk, head.key_btk, head.value_btv, head.log_decay, tokens_.document_start_bt,
                      head.local, head.chunk);
}

Tensor FastTensors::sum_of(const Tensor& query_btk, const Head& head) const {
  return with_inbound(local_part(query_btk, head), query_btk, head.inbound_bvk, head.decay);
}

std::vector<Tensor> FastTensors::first_local(const Tensor& query_btd) const {
  const Tensor query = with_bias_input(query_btd);
  std::vector<Tensor> local;
  for (const Head& head : first_) local.push_back(local_part(query, head));
  return local;
}

Tensor FastTensors::first_sum(std::vector<Tensor> local, const Tensor& query_btd) const {
  const Tensor query = with_bias_input(query_btd);
  for (size_t j = 0; j < local.size(); ++j)
    local[j] = with_inbound(local[j], query, first_[j].inbound_bvk, first_[j].decay);
  return join_heads(local, -1);
}

Tensor FastTensors::second_sum(const Tensor& query_btf) const {
  const std::vector<Tensor> query = second_inputs(query_btf);
  Tensor sum_btd;
  for (size_t j = 0; j < query.size(); ++j) {
    const Tensor part_btd = sum_of(query[j], second_[j]);
    sum_btd = j == 0 ? part_btd : sum_btd + part_btd;
  }
  return sum_btd;
}

Tensor FastTensors::norm_sum() const {
  return sum_of(norm_.front().key_btk, norm_.front());
}

FastWeightState FastTensors::outbound() const {
  const auto joined = [](const std::vector<Head>& heads, int64_t dim) {
    std::vector<Tensor> parts;
    for (const Head& head : heads) parts.push_back(outbound_state(head.local, head.decay, head.inbound_bvk));
    return parts.empty() ? Tensor() : join_heads(parts, dim);
  };
  return {joined(first_, 1), joined(second_, 2), joined(norm_, 1)};
}

}  // namespace fwl
