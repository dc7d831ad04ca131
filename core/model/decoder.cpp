#include "core/model/decoder.h"

#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "core/kernels/matmul.h"
#include "core/kernels/upload.h"

namespace fwl {
namespace {

constexpr double kNormEpsilon = 1e-5;
constexpr int64_t kBlockInputs = 64;  // weights are read once for so many; no effect on the result
constexpr int64_t kFirstSlots = 64;   // of a ring that grows (full attention)

Tensor project(const WeightView& w, const ProjectionIndex& p, const Tensor& x_nk) {
  return row_product(x_nk, w(p.weight), w(p.bias));
}

Tensor apply_norm(const WeightView& w, const NormIndex& norm, const Tensor& x_nd) {
  const Tensor scale = w(norm.scale), bias = w(norm.bias);
  return by_row(x_nd, [&](const Tensor& x) {
    return bias.defined() ? at::layer_norm(x, {x.size(-1)}, scale, bias, kNormEpsilon)
                          : at::rms_norm(x, {x.size(-1)}, scale, kNormEpsilon);
  });
}

Tensor feed_forward(const ModelConfig& c, const WeightView& w, const BlockIndex& block, const Tensor& x_nd) {
  const Tensor up = project(w, block.up, x_nd);
  const Tensor act = by_row(up, [&](const Tensor& x) {
    if (c.feed_forward == "gelu") return at::gelu(x, "tanh");
    if (c.feed_forward != "swiglu") return at::relu(x).square();
    const auto halves = x.chunk(2, -1);
    return at::silu(halves[0]) * halves[1];
  });
  return project(w, block.down, act);
}

// base^(-2 e / E), float64.
std::vector<double> rotary_frequencies(const ModelConfig& c) {
  const int64_t half = c.width / c.heads / 2;
  std::vector<double> frequency_e;
  for (int64_t e = 0; e < half; ++e)
    frequency_e.push_back(std::pow(c.rotary_base, -static_cast<double>(e) / static_cast<double>(half)));
  return frequency_e;
}

int64_t bytes_of(const Tensor& t) {
  return t.defined() ? static_cast<int64_t>(t.nbytes()) : 0;
}

// On the CPU weights are in float32 already, and products in bfloat16 would be slower.
at::ScalarType decoding_type(const LanguageModel& model) {
  return model.device().is_cpu() ? model.accumulation_type() : model.compute_type();
}

}  // namespace

Decoder::Decoder(const LanguageModel& model, Pass pass)
    : model_(model), pass_(pass), weights_(model.parameters(), decoding_type(model)) {
  require<ConfigError>(
      pass == Pass::kSlow || model.has_fast_weights(),
      "this model has no fast weights (model.fast_weight.update is none or absent: it is static "
      "control). Ask for the slow pass, or give a model trained with update slow_gradient.");
  require<ConfigError>(!model.layer_options().inner.float8_logits,
                       "decoding with inner logits of 8 bits (it reads the unembedding token by token, which "
                       "8-bit products do not serve). Use the logits of the model's type.");
  const at::NoGradGuard no_grad;
  layer_ = model.layer_weights(weights_);
  layer_.unembedding = approximated(layer_.unembedding, model.layer_options().inner);
  for (int64_t k = 0; k < inner_steps(layer_); ++k) steps_.push_back(weights_of_step(layer_, k));
  if (pass == Pass::kFast)
    for (const FastWeightWeights& step : steps_) decays_.push_back(host_decays(step));
  if (model.config().positions == "rotary")
    rotary_frequency_e_ = uploaded(rotary_frequencies(model.config()), model.device());
}

FastWeightState Decoder::zero_state() const {
  return zero_step_state(layer_, model_.layer_options(), model_.accumulation_type());
}

int64_t Decoder::add_sequence() {
  Sequence sequence;
  const ModelConfig& c = model_.config();
  const auto options = at::TensorOptions().dtype(weights_.compute()).device(model_.device());
  const int64_t slots = c.window > 0 ? c.window : kFirstSlots;
  for (int64_t layer = 0; layer < c.layers; ++layer) {
    const auto empty = [&] { return at::zeros({c.heads, slots, c.width / c.heads}, options); };
    sequence.rings.push_back({empty(), empty()});
  }
  if (pass_ == Pass::kFast) {
    sequence.pending.resize(steps_.size());
    for (size_t k = 0; k < steps_.size(); ++k) sequence.fast.push_back(zero_state());
  }
  sequences_.emplace(next_sequence_, std::move(sequence));
  return next_sequence_++;
}

int64_t Decoder::add_sequence(const StreamState& state) {
  const int64_t number = add_sequence();
  Sequence& s = sequences_.at(number);
  const auto take = [&](Tensor& mine, const Tensor& given) {
    require<ConfigError>(!given.defined() || (given.size(0) == 1 && given[0].sizes() == mine.sizes()),
                         "the state has a tensor of another shape than the model's (it was made with another "
                         "model). Use the model that made it.");
    if (given.defined()) mine.copy_(given[0]);
  };
  for (size_t k = 0; k < s.fast.size(); ++k) {
    const FastWeightState given = state_of_step(state.fast, static_cast<int64_t>(k), steps());
    take(s.fast[k].dense1_bfd, given.dense1_bfd);
    take(s.fast[k].dense2_bdf, given.dense2_bdf);
    take(s.fast[k].norm_bd, given.norm_bd);
  }
  s.position = state.position;
  const int64_t needed = remembered(s.position);
  require<ConfigError>(state.layers.size() == s.rings.size() || (state.layers.empty() && needed == 0),
                       "the state has ", state.layers.size(), " layers of attention, the model ",
                       s.rings.size(), " (it was made with another model). Use the model that made it.");
  for (size_t layer = 0; layer < state.layers.size(); ++layer) {
    const AttentionMemory& memory = state.layers[layer];
    const int64_t count = memory.key_bhte.defined() ? memory.key_bhte.size(2) : 0, first = s.position - count;
    require<ConfigError>(count == needed, "the state remembers ", count, " positions, the model needs ",
                         needed, " (it was made with another model). Use the model that made it.");
    AttentionRing& ring = s.rings[layer];
    for (int64_t i = 0; i < count; ++i) {
      make_room(ring, first + i);
      const int64_t slot = (first + i) % ring.key_hce.size(1);
      ring.key_hce.select(1, slot).copy_(memory.key_bhte[0].select(1, i));
      ring.value_hce.select(1, slot).copy_(memory.value_bhte[0].select(1, i));
    }
  }
  return number;
}

// How many earlier positions attention needs at `position`.
int64_t Decoder::remembered(int64_t position) const {
  const int64_t window = model_.config().window;
  return window > 0 ? std::min(position, window - 1) : position;
}

void Decoder::drop_sequence(int64_t sequence) {
  sequences_.erase(sequence);
}

StreamState Decoder::state(int64_t sequence) const {
  const Sequence& s = sequences_.at(sequence);
  const bool waits = !s.pending.empty() && s.pending.front().has_value();
  require<InternalError>(!waits, "a decoder's state was asked for before settle()");
  const auto row = [](const Tensor& t) { return t.defined() ? t.unsqueeze(0).clone() : t; };
  StreamState state;
  state.position = s.position;
  std::vector<FastWeightState> steps;
  for (const FastWeightState& fast : s.fast)
    steps.push_back({row(fast.dense1_bfd), row(fast.dense2_bdf), row(fast.norm_bd)});
  if (!steps.empty()) state.fast = join_steps(steps);
  for (const AttentionRing& ring : s.rings) {
    std::vector<int64_t> slots;
    for (int64_t p = s.position - remembered(s.position); p < s.position; ++p)
      slots.push_back(p % ring.key_hce.size(1));
    const Tensor index = uploaded(slots, model_.device());
    state.layers.push_back(
        {row(ring.key_hce.index_select(1, index)), row(ring.value_hce.index_select(1, index))});
  }
  return state;
}

int64_t Decoder::memory_bytes() const {
  int64_t bytes = 0;
  for (const auto& [number, s] : sequences_) {
    for (const FastWeightState& fast : s.fast)
      bytes += bytes_of(fast.dense1_bfd) + bytes_of(fast.dense2_bdf) + bytes_of(fast.norm_bd);
    for (const AttentionRing& ring : s.rings) bytes += bytes_of(ring.key_hce) + bytes_of(ring.value_hce);
  }
  return bytes;
}

// With full attention the ring holds every position; it doubles when it is full.
void Decoder::make_room(AttentionRing& ring, int64_t position) const {
  const int64_t slots = ring.key_hce.size(1);
  if (model_.config().window > 0 || position < slots) return;
  for (Tensor* t : {&ring.key_hce, &ring.value_hce}) *t = at::cat({*t, at::zeros_like(*t)}, 1);
}

Tensor Decoder::embed(const Block& block, const std::vector<int64_t>& positions) const {
  const Tensor x_nd = weights_(model_.body().embedding).index_select(0, block.token_n);
  if (model_.config().positions == "rotary") return x_nd;
  const Tensor table_pd = weights_(model_.body().positions);
  const int64_t last = *std::max_element(positions.begin(), positions.end());
  require<ConfigError>(last < table_pd.size(0), "position ", last, " is beyond the ", table_pd.size(0),
                       " learned positions of this model. Read and generate fewer tokens.");
  return x_nd + select_rows(table_pd, positions);
}

// Tables for any positions, one row each: [n, 1, E/2]. Angles in float64, as rotary_table(); on a CPU by the
// host's functions, whose bits depend on nothing but the angle.
RotaryTable Decoder::rotary_rows(const std::vector<int64_t>& positions,
                                 const at::TensorOptions& options) const {
  const int64_t half = rotary_frequency_e_.numel(), count = static_cast<int64_t>(positions.size());
  if (!model_.device().is_cpu()) {
    const Tensor angle_n1e =
        uploaded(positions, model_.device()).to(at::kDouble).view({count, 1, 1}) * rotary_frequency_e_;
    return {angle_n1e.cos().to(options), angle_n1e.sin().to(options)};
  }
  Tensor cosine = at::empty({count, 1, half}, at::kDouble), sine = at::empty_like(cosine);
  auto *cosines = cosine.mutable_data_ptr<double>(), *sines = sine.mutable_data_ptr<double>();
  const double* const frequency = rotary_frequency_e_.const_data_ptr<double>();
  for (const int64_t position : positions) {
    for (int64_t e = 0; e < half; ++e) {
      const double angle = static_cast<double>(position) * frequency[e];
      *cosines++ = std::cos(angle);
      *sines++ = std::sin(angle);
    }
  }
  return {cosine.to(options), sine.to(options)};
}

Tensor Decoder::attend(const BlockIndex& block, size_t layer, const Tensor& normed_nd,
                       const RotaryTable& rotary, const DecoderInput* inputs,
                       const std::vector<int64_t>& positions) {
  const ModelConfig& c = model_.config();
  const auto count = static_cast<int64_t>(positions.size());
  const Tensor qkv = project(weights_, block.qkv, normed_nd).view({count, 3, c.heads, c.width / c.heads});
  const auto placed = [&](const Tensor& x_nhe) {
    return rotary.cosine_te.defined() ? rotate(x_nhe, rotary) : x_nhe;
  };
  const Tensor q = placed(qkv.select(1, 0)), k = placed(qkv.select(1, 1)), v = qkv.select(1, 2);
  std::vector<Tensor> out;
  // Runs of inputs of one sequence go together.
  for (int64_t first = 0, end = 0; first < count; first = end) {
    for (end = first + 1; end < count && inputs[end].sequence == inputs[first].sequence;) ++end;
    const auto run = [&](const Tensor& x) { return x.narrow(0, first, end - first); };
    AttentionRing& ring = sequences_.at(inputs[first].sequence).rings[layer];
    const int64_t position = positions[static_cast<size_t>(first)];
    make_room(ring, position + end - first - 1);
    const int64_t reach = c.window > 0 ? c.window : ring.key_hce.size(1);
    out.push_back(attend_ring(ring, run(q), run(k), run(v), position, reach));
  }
  return project(weights_, block.attention_out, at::cat(out).reshape({count, c.width}));
}

Tensor Decoder::body(const Block& block) {
  const ModelConfig& c = model_.config();
  const DecoderInput* const inputs = block.inputs;
  std::vector<int64_t> positions;
  for (int64_t n = 0; n < block.count; ++n) {
    positions.push_back(sequences_.at(inputs[n].sequence).position++);
    require<InternalError>(!c.document_mask || !inputs[n].document_start || positions.back() == 0,
                           "a decoder's sequence is one document where attention stays within documents");
  }
  Tensor x_nd = embed(block, positions);
  const auto wide = x_nd.options().dtype(accumulate_type(x_nd.scalar_type()));
  const RotaryTable rotary = c.positions == "rotary" ? rotary_rows(positions, wide) : RotaryTable{};
  const std::vector<BlockIndex>& blocks = model_.body().blocks;
  for (size_t layer = 0; layer < blocks.size(); ++layer) {
    const BlockIndex& own = blocks[layer];
    x_nd = x_nd + attend(own, layer, apply_norm(weights_, own.norm1, x_nd), rotary, inputs, positions);
    x_nd = x_nd + feed_forward(c, weights_, own, apply_norm(weights_, own.norm2, x_nd));
  }
  return x_nd;
}

// What a block's states of one inner step learn: the passes over the positions before the inputs (rows),
// their gradients, all computed together, and per sequence the rows that its state has not taken yet.
class Decoder::Learning {
 public:
  Learning(Decoder& decoder, size_t step, const Block& block, const PassRows& rows)
      : decoder_(decoder),
        step_(step),
        inputs_(block.inputs),
        before_(static_cast<size_t>(block.count), -1),
        gradient_(before_) {
    find_rows(block.count, rows);
    std::vector<int64_t> learned, labels;  // rows of rows_; inputs whose tokens are the labels
    for (size_t n = 0; n < before_.size(); ++n) {
      if (before_[n] < 0 || !inputs_[n].learn) continue;
      gradient_[n] = static_cast<int64_t>(labels.size());
      learned.push_back(before_[n]);
      labels.push_back(static_cast<int64_t>(n));
    }
    if (labels.empty()) return;
    gradients_ =
        gradient_rows(weights(), options(), select_rows(rows_, learned), select_rows(block.token_n, labels));
  }

  // The state of input n's sequence moves on to before input n.
  void reach(size_t n) {
    const int64_t sequence = inputs_[n].sequence;
    if (before_[n] >= 0) waiting_[sequence].push_back(n);
    if (!inputs_[n].document_start || !decoder_.model_.config().fast_weight.document_reset) return;
    waiting_[sequence].clear();
    decoder_.sequences_.at(sequence).fast[step_] = decoder_.zero_state();
  }

  // The sequence's state with all that it has reached.
  const FastWeightState& state(int64_t sequence) {
    FastWeightState& state = decoder_.sequences_.at(sequence).fast[step_];
    const std::vector<size_t>& events = waiting_[sequence];
    for (size_t first = 0, end = 0; first < events.size(); first = end) {
      const bool learns = gradient_[events[first]] >= 0;
      while (end < events.size() && (gradient_[events[end]] >= 0) == learns) ++end;
      take(events, first, end, learns, state);
    }
    waiting_[sequence].clear();
    return state;
  }

  // Every state takes what is left; the last position of each sequence waits for its label.
  void finish() {
    for (const auto& [sequence, row] : last_row_) {
      state(sequence);
      decoder_.sequences_.at(sequence).pending[step_] = copy_row(rows_, row);
    }
  }

 private:
  const FastWeightOptions& options() const { return decoder_.model_.layer_options(); }
  const FastWeightWeights& weights() const { return decoder_.steps_[step_]; }
  const HostDecays& decays() const { return decoder_.decays_[step_]; }

  // The row before each input: one of this block, or what was pending in its sequence; -1: there is none.
  void find_rows(int64_t count, const PassRows& rows) {
    std::vector<PassRows> parts;
    for (int64_t n = 0; n < count; ++n) {
      const std::optional<PassRows>& pending = decoder_.sequences_.at(inputs_[n].sequence).pending[step_];
      if (!pending.has_value()) continue;
      if (!last_row_.emplace(inputs_[n].sequence, static_cast<int64_t>(parts.size())).second) continue;
      parts.push_back(*pending);
    }
    const auto offset = static_cast<int64_t>(parts.size());
    for (int64_t n = 0; n < count; ++n) {
      const auto found = last_row_.find(inputs_[n].sequence);
      if (found != last_row_.end()) before_[static_cast<size_t>(n)] = found->second;
      last_row_[inputs_[n].sequence] = offset + n;
    }
    parts.push_back(rows);
    rows_ = join_rows(parts);
  }

  // Events [first, end), which all learn or all do not.
  void take(const std::vector<size_t>& events, size_t first, size_t end, bool learns,
            FastWeightState& state) const {
    if (!learns) return pass_over_(weights(), decays(), static_cast<int64_t>(end - first), state);
    std::vector<int64_t> keys, values;
    for (size_t i = first; i < end; ++i) {
      keys.push_back(before_[events[i]]);
      values.push_back(gradient_[events[i]]);
    }
    const auto chosen = [&](const Tensor& t) { return t.defined() ? select_rows(t, values) : t; };
    learn_rows_(weights(), options(), decays(), select_rows(rows_, keys),
                {chosen(gradients_.dense1_nf), chosen(gradients_.dense2_nd), chosen(gradients_.norm_n2d)},
                state);
  }

  Decoder& decoder_;
  size_t step_;
  const DecoderInput* inputs_;
  std::vector<int64_t> before_, gradient_;  // by input; rows of rows_ and of gradients_
  std::map<int64_t, int64_t> last_row_;     // by sequence
  std::map<int64_t, std::vector<size_t>> waiting_;
  PassRows rows_;
  GradientRows gradients_;
};

// Input of the unembedding of the inputs with `predict`; undefined when there are none. Before the last step
// every input is passed over: the next step learns from it.
Tensor Decoder::fast_pass(const Block& block, const PassRows& slow) {
  PassRows rows = slow;
  for (size_t k = 0; k < steps_.size(); ++k) {
    Learning learning(*this, k, block, rows);
    std::vector<FastRows> fast;
    std::vector<int64_t> passed;
    for (int64_t n = 0; n < block.count; ++n) {
      learning.reach(static_cast<size_t>(n));
      if (k + 1 == steps_.size() && !block.inputs[n].predict) continue;
      passed.push_back(n);
      fast.push_back(fast_row(steps_[k], model_.layer_options(), select_rows(slow, {n}),
                              learning.state(block.inputs[n].sequence)));
    }
    learning.finish();
    if (fast.empty()) return {};
    rows = fast_rows(steps_[k], model_.layer_options(), select_rows(slow, passed), fast);
  }
  return rows.normed_nd;
}

// Input of the unembedding at the static weights, likewise.
Tensor Decoder::slow_predictions(const DecoderInput* inputs, int64_t count, const PassRows& slow) const {
  std::vector<int64_t> predicted;
  for (int64_t n = 0; n < count; ++n)
    if (inputs[n].predict) predicted.push_back(n);
  return predicted.empty() ? Tensor() : select_rows(slow.normed_nd, predicted);
}

Tensor Decoder::read_block(const DecoderInput* inputs, int64_t count) {
  std::vector<int64_t> tokens;
  for (int64_t n = 0; n < count; ++n) tokens.push_back(inputs[n].token);
  const Block block{inputs, count, uploaded(tokens, model_.device())};
  const PassRows slow = slow_rows(layer_, model_.layer_options(), body(block));
  const Tensor normed_nd =
      pass_ == Pass::kFast ? fast_pass(block, slow) : slow_predictions(inputs, count, slow);
  if (!normed_nd.defined()) return {};
  return row_product(normed_nd, layer_.unembedding.weight_vd, layer_.unembedding.bias_v)
      .to(model_.accumulation_type());
}

Tensor Decoder::read(const std::vector<DecoderInput>& inputs) {
  const at::NoGradGuard no_grad;
  const auto total = static_cast<int64_t>(inputs.size());
  std::vector<Tensor> logits;
  for (int64_t first = 0; first < total; first += kBlockInputs) {
    const Tensor part_nv =
        read_block(&inputs[static_cast<size_t>(first)], std::min(kBlockInputs, total - first));
    if (part_nv.defined()) logits.push_back(part_nv);
  }
  if (!logits.empty()) return logits.size() == 1 ? logits.front() : at::cat(logits);
  return at::empty({0, model_.config().vocab_size},
                   at::TensorOptions().dtype(model_.accumulation_type()).device(model_.device()));
}

void Decoder::settle(int64_t sequence, int64_t next_token, bool learn) {
  const at::NoGradGuard no_grad;
  Sequence& s = sequences_.at(sequence);
  for (size_t k = 0; k < s.pending.size(); ++k) {
    if (!s.pending[k].has_value()) continue;
    if (learn) {
      const GradientRows gradients = gradient_rows(steps_[k], model_.layer_options(), *s.pending[k],
                                                   uploaded<int64_t>({next_token}, model_.device()));
      learn_rows_(steps_[k], model_.layer_options(), decays_[k], *s.pending[k], gradients, s.fast[k]);
    } else {
      pass_over_(steps_[k], decays_[k], 1, s.fast[k]);
    }
    s.pending[k].reset();
  }
}

}  // namespace fwl
