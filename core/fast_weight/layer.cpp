#include "core/fast_weight/layer.h"

#include "core/base/error.h"
#include "core/fast_weight/linear_attention.h"
#include "core/fast_weight/norm_gradient.h"
#include "core/kernels/activation.h"
#include "core/kernels/norm.h"

namespace fwl {
namespace {

// What a pass leaves for the inner backward and for the next pass.
struct Activations {
  Tensor input_btd;       // z: input norm of h, or h
  Tensor residual_btd;    // h with a residual, else undefined
  Tensor before_act_btf;  // u
  Tensor act_btf;         // a = relu(u)^2
  Tensor output_btd;      // o: before the output norm
  Tensor normed_btd;      // n: input of the unembedding
};

// Value gradients of a pass; the keys are its activations themselves.
struct InnerGradients {
  Tensor dense1_btf;  // g1 = dl/du
  Tensor dense2_btd;  // g2 = dl/do
  Tensor norm_bt2d;   // dl/dscale and dl/dbias of each token, side by side
};

Tensor layer_norm(const Tensor& x, const Tensor& scale_d, const Tensor& bias_d, double epsilon) {
  return at::layer_norm(x, {x.size(-1)}, scale_d, bias_d, epsilon);
}

Tensor squared_relu(const Tensor& u) {
  return activation(Activation::kSquaredRelu, u);
}

AddNorm output_norm(const FastWeightWeights& w, const FastWeightOptions& options, const Tensor& out_btd,
                    const Tensor& residual_btd) {
  return residual_btd.defined()
             ? add_norm(residual_btd, out_btd, w.norm_scale_d, w.norm_bias_d, options.norm_epsilon)
             : add_norm(out_btd, {}, w.norm_scale_d, w.norm_bias_d, options.norm_epsilon);
}

// x - step * sum, the sum's rows being those of the step sizes.
Tensor stepped(const Tensor& x, const Tensor& sum, const Tensor& step_size) {
  return at::addcmul(x, sum, step_size.to(sum.scalar_type()), -1);
}

Activations slow_activations(const FastWeightWeights& w, const FastWeightOptions& options,
                             const Tensor& hidden_btd) {
  Activations s;
  s.input_btd =
      w.input_norm_scale_d.defined()
          ? add_norm(hidden_btd, {}, w.input_norm_scale_d, w.input_norm_bias_d, options.norm_epsilon).norm
          : hidden_btd;
  if (options.residual) s.residual_btd = hidden_btd;
  s.before_act_btf = at::linear(s.input_btd, w.dense1_fd, w.dense1_bias_f);
  s.act_btf = squared_relu(s.before_act_btf);
  const AddNorm out =
      output_norm(w, options, at::linear(s.act_btf, w.dense2_df, w.dense2_bias_d), s.residual_btd);
  s.output_btd = out.sum;
  s.normed_btd = out.norm;
  return s;
}

// The factor of each token's inner gradient, [b, t, 1] in the accumulation type; undefined: none.
Tensor write_gate(const FastWeightWeights& w, const Tensor& input_btd, const LossTokens& tokens) {
  Tensor logit_bt1;
  const auto add = [&](const Tensor& x_bt1) {
    const Tensor wide = x_bt1.to(tokens.weight_bt.scalar_type());
    logit_bt1 = logit_bt1.defined() ? logit_bt1 + wide : wide;
  };
  if (w.write_gate_d.defined()) add(at::linear(input_btd, w.write_gate_d.unsqueeze(0)));
  if (w.write_gate_v.defined()) add(at::embedding(w.write_gate_v.unsqueeze(1), tokens.label_bt));
  return logit_bt1.defined() ? 2 * at::sigmoid(logit_bt1) : Tensor();
}

Tensor gated(const Tensor& gradient_btk, const Tensor& gate_bt1) {
  if (!gradient_btk.defined() || !gate_bt1.defined()) return gradient_btk;
  return gradient_btk * gate_bt1.to(gradient_btk.scalar_type());
}

// g2 = J_norm^T q and g1 = (relu^2)'(u) * (W2^T g2), of every token alone, where the pass was. `q_btd` is
// the gradient of the weighted inner loss with respect to the normed output. All are linear in it: the gate
// comes first, or last where the outer gradient is cut between.
InnerGradients inner_gradients(const FastWeightWeights& w, const FastWeightOptions& options,
                               const Activations& s, const Tensor& ungated_q_btd, const Tensor& gate_bt1) {
  InnerGradients g;
  const Tensor q_btd = options.second_order ? gated(ungated_q_btd, gate_bt1) : ungated_q_btd;
  const auto flat = [](const Tensor& x) { return x.flatten(0, 1); };
  g.dense2_btd = layer_norm_gradient(flat(s.output_btd), w.norm_scale_d, flat(q_btd), options.norm_epsilon)
                     .view_as(s.output_btd);
  if (options.fast_layers == FastLayers::kBoth) {
    g.dense1_btf = squared_relu_gradient(s.before_act_btf, at::matmul(g.dense2_btd, w.dense2_df));
  }
  if (options.fast_norm) {
    const Tensor xhat_btd = layer_norm(s.output_btd, {}, {}, options.norm_epsilon);
    g.norm_bt2d = at::cat({q_btd * xhat_btd, q_btd}, -1);
  }
  if (options.second_order) return g;
  for (Tensor* gradient : {&g.dense1_btf, &g.dense2_btd, &g.norm_bt2d})
    if (gradient->defined()) *gradient = gated(gradient->detach(), gate_bt1);
  return g;
}

// A constant 1 joins queries and keys when biases are fast: its score adds every earlier value once.
Tensor with_bias_input(const Tensor& x_btk, const FastWeightOptions& options) {
  return options.fast_biases ? at::constant_pad_nd(x_btk, {0, 1}, 1) : x_btk;
}

Tensor with_gain(const Tensor& query, const Tensor& gain) {
  return gain.defined() ? query * gain : query;
}

// Keys and queries of a dense layer from its inputs, as model.fast_weight.key_norm has them.
Tensor keys_of(const FastWeightWeights& w, const FastWeightOptions& options, const Tensor& input) {
  return options.key_norm == KeyNorm::kNone ? input : unit_keys(input, w.dense1_fd.size(1));
}
Tensor queries_of(const FastWeightWeights& w, const FastWeightOptions& options, const Tensor& input,
                  const Tensor& gain) {
  const bool scaled = options.key_norm == KeyNorm::kKeysAndQueries;
  return with_gain(scaled ? keys_of(w, options, input) : input, gain);
}

// x, and what the start of the fast weights adds to a dense layer's output.
Tensor with_start(const Tensor& x, const Tensor& input, const Tensor& start) {
  return start.defined() ? x + at::linear(input, start) : x;
}

// One head of a tensor of fast weights: its keys and values come from the slow pass, its queries from the
// fast one.
struct FastTensor {
  Tensor key_btk, value_btv, log_decay;
  int64_t chunk;
  std::optional<ShardDecay> decay;  // only where states come in or go out
  LocalStates local;
  Tensor given_bvk;    // inbound state that the caller gave; may be undefined
  Tensor inbound_bvk;  // state before the first position; may be undefined: zero
};

FastTensor fast_tensor(const FastWeightOptions& options, const LossTokens& tokens, const Tensor& key,
                       const Tensor& value, const Tensor& log_decay, const Tensor& given, bool total) {
  FastTensor f{key, value, log_decay, options.chunk, {}, {}, given, given};
  if (f.chunk <= 0) f.chunk = fastest_chunk(key.size(1), key.size(2), value.size(2), key.device());
  if (total || given.defined())
    f.decay = shard_decay(log_decay, tokens.document_start_bt, key.size(1), tokens.weight_bt.scalar_type());
  f.local =
      local_states(key, value, log_decay, tokens.document_start_bt, total ? f.decay : std::nullopt, f.chunk);
  return f;
}

// After the last position, from what is before the first.
Tensor outbound_state(const FastTensor& f, const Tensor& inbound_bvk) {
  return inbound_bvk.defined() ? f.local.total_bvk + f.decay->carry_b11 * inbound_bvk : f.local.total_bvk;
}

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
// Inputs of the second dense layer, a part a head.
std::vector<Tensor> second_inputs(const Tensor& act_btf, int64_t heads, const FastWeightOptions& options) {
  std::vector<Tensor> parts = split_heads(act_btf, head_widths(act_btf.size(-1), heads), -1);
  parts.back() = with_bias_input(parts.back(), options);
  return parts;
}

// The fast tensors of the block by head, and where their inbound states come from.
struct FastTensors {
  std::vector<FastTensor> dense1, dense2, norm;  // the norm's: one, or none
  StateExchange* exchange;

  std::vector<FastTensor*> all() {
    std::vector<FastTensor*> list;
    for (auto* tensors : {&dense1, &dense2, &norm})
      for (FastTensor& f : *tensors) list.push_back(&f);
    return list;
  }
  void start_exchange() {
    if (exchange == nullptr) return;
    std::vector<ShardState> shards;
    for (const FastTensor* f : all())
      shards.push_back({outbound_state(*f, f->given_bvk), f->decay->carry_b11});
    exchange->start(shards);
  }
  void finish_exchange() {
    if (exchange == nullptr) return;
    const std::vector<Tensor> before = exchange->finish();
    const std::vector<FastTensor*> list = all();
    for (size_t i = 0; i < list.size(); ++i) {
      FastTensor& f = *list[i];
      f.inbound_bvk = f.given_bvk.defined() ? before[i] + f.given_bvk : before[i];
    }
  }
};

// After the last position, the heads joined along `dim`.
Tensor outbound_states(const std::vector<FastTensor>& heads, int64_t dim) {
  std::vector<Tensor> parts;
  for (const FastTensor& f : heads) parts.push_back(outbound_state(f, f.inbound_bvk));
  return join_heads(parts, dim);
}

// What the shard's own positions give; the part that can be computed before the inbound state is there.
Tensor local_part(const LossTokens& tokens, const Tensor& query_btk, const FastTensor& f) {
  return attend_local(query_btk, f.key_btk, f.value_btv, f.log_decay, tokens.document_start_bt, f.local,
                      f.chunk);
}
Tensor with_inbound(const Tensor& local_btv, const Tensor& query_btk, const FastTensor& f) {
  return f.inbound_bvk.defined() ? local_btv + attend_inbound(query_btk, f.inbound_bvk, *f.decay) : local_btv;
}

// S_t query_t of one fast tensor, once its inbound state is known.
Tensor fast_sum(const LossTokens& tokens, const Tensor& query_btk, const FastTensor& f) {
  return with_inbound(local_part(tokens, query_btk, f), query_btk, f);
}

// The first dense layer: heads are rows, which share queries and keys.
std::vector<FastTensor> first_tensors(const FastWeightWeights& w, const FastWeightOptions& options,
                                      const LossTokens& tokens, const Tensor& key_btd,
                                      const Tensor& value_btf, const Tensor& inbound_bfd, bool total) {
  const std::vector<int64_t> widths = head_widths(value_btf.size(-1), decay_heads(w));
  const std::vector<Tensor> values = split_heads(value_btf, widths, -1),
                            given = split_heads(inbound_bfd, widths, 1);
  const Tensor key = with_bias_input(key_btd, options);
  std::vector<FastTensor> heads;
  for (size_t j = 0; j < widths.size(); ++j)
    heads.push_back(fast_tensor(options, tokens, key, values[j], decay_of(w.log_decay1, j), given[j], total));
  return heads;
}

// The second: heads are columns, which share the values; their sums add up.
std::vector<FastTensor> second_tensors(const FastWeightWeights& w, const FastWeightOptions& options,
                                       const LossTokens& tokens, const Tensor& key_btf,
                                       const Tensor& value_btd, const Tensor& inbound_bdf, bool total) {
  const std::vector<Tensor> keys = second_inputs(key_btf, decay_heads(w), options);
  const std::vector<Tensor> given =
      split_heads(inbound_bdf, head_widths(key_btf.size(-1), decay_heads(w), options.fast_biases ? 1 : 0), 2);
  std::vector<FastTensor> heads;
  for (size_t j = 0; j < keys.size(); ++j)
    heads.push_back(
        fast_tensor(options, tokens, keys[j], value_btd, decay_of(w.log_decay2, j), given[j], total));
  return heads;
}

FastTensors fast_tensors(const FastWeightWeights& w, const FastWeightOptions& options,
                         const LossTokens& tokens, const Activations& s, const InnerGradients& g,
                         const FastWeightState& inbound, StateExchange* exchange, bool wants_state) {
  FastTensors f{{}, {}, {}, exchange};
  const bool total = wants_state || exchange != nullptr;
  if (options.fast_layers == FastLayers::kBoth)
    f.dense1 = first_tensors(w, options, tokens, keys_of(w, options, s.input_btd), g.dense1_btf,
                             inbound.dense1_bfd, total);
  f.dense2 = second_tensors(w, options, tokens, keys_of(w, options, s.act_btf), g.dense2_btd,
                            inbound.dense2_bdf, total);
  if (options.fast_norm) {
    const Tensor ones_bt1 = at::ones({s.input_btd.size(0), s.input_btd.size(1), 1}, g.norm_bt2d.options());
    f.norm.push_back(
        fast_tensor(options, tokens, ones_bt1, g.norm_bt2d, w.log_decay_norm, inbound.norm_bd, total));
  }
  return f;
}

// Scale and bias of the output norm as every position sees them: scale - step * (decayed sum of gradients).
Tensor fast_output_norm(const FastWeightWeights& w, const FastWeightOptions& options,
                        const LossTokens& tokens, const Tensor& output_btd, const FastTensor& norm) {
  const Tensor sum_bt2d = fast_sum(tokens, norm.key_btk, norm);
  const int64_t d = output_btd.size(-1);
  const Tensor step = w.step_size_norm.to(sum_bt2d.scalar_type());
  const Tensor xhat_btd = layer_norm(output_btd, {}, {}, options.norm_epsilon);
  return xhat_btd * (w.norm_scale_d - step * sum_bt2d.narrow(-1, 0, d)) +
         (w.norm_bias_d - step * sum_bt2d.narrow(-1, d, d));
}

// A pass at fast weights, which also finishes the exchange of the states. All of them come from the pass
// before, so that one exchange serves them all: while it is under way the first layer attends to the shard's
// own positions.
Activations fast_activations(const FastWeightWeights& w, const FastWeightOptions& options,
                             const LossTokens& tokens, const Activations& slow, FastTensors& fast) {
  const bool both = options.fast_layers == FastLayers::kBoth;
  Activations pass = slow;
  fast.start_exchange();
  Tensor query1_btd;
  std::vector<Tensor> sums_btf;  // of the first layer, by head
  if (both) query1_btd = with_bias_input(queries_of(w, options, slow.input_btd, w.query_gain1_d), options);
  for (const FastTensor& f : fast.dense1) sums_btf.push_back(local_part(tokens, query1_btd, f));
  fast.finish_exchange();

  if (both) {
    for (size_t j = 0; j < sums_btf.size(); ++j)
      sums_btf[j] = with_inbound(sums_btf[j], query1_btd, fast.dense1[j]);
    pass.before_act_btf = stepped(with_start(slow.before_act_btf, slow.input_btd, w.start1_fd),
                                  join_heads(sums_btf, -1), w.step_size1);
    pass.act_btf = squared_relu(pass.before_act_btf);
  }
  const std::vector<Tensor> query2 =
      second_inputs(queries_of(w, options, pass.act_btf, w.query_gain2_f), decay_heads(w), options);
  Tensor sum_btd;
  for (size_t j = 0; j < query2.size(); ++j) {
    const Tensor part_btd = fast_sum(tokens, query2[j], fast.dense2[j]);
    sum_btd = j == 0 ? part_btd : sum_btd + part_btd;
  }
  // With the first layer slow, the slow pass has this product already, residual and all.
  const Tensor slow_out_btd =
      with_start(both ? at::linear(pass.act_btf, w.dense2_df, w.dense2_bias_d) : slow.output_btd,
                 pass.act_btf, w.start2_df);
  const AddNorm out = output_norm(w, options, stepped(slow_out_btd, sum_btd, w.step_size2),
                                  both ? slow.residual_btd : Tensor());
  pass.output_btd = out.sum;
  pass.normed_btd =
      options.fast_norm ? fast_output_norm(w, options, tokens, out.sum, fast.norm.front()) : out.norm;
  return pass;
}

FastWeightState outbound_state(const FastTensors& fast) {
  FastWeightState state;
  if (!fast.dense1.empty()) state.dense1_bfd = outbound_states(fast.dense1, 1);
  state.dense2_bdf = outbound_states(fast.dense2, 2);
  if (!fast.norm.empty()) state.norm_bd = outbound_states(fast.norm, 1);
  return state;
}

}  // namespace

int64_t decay_heads(const FastWeightWeights& weights) {
  const Tensor& log_decay = weights.log_decay2;
  return log_decay.defined() && log_decay.dim() == 1 ? log_decay.size(0) : 1;
}

std::vector<int64_t> head_widths(int64_t hidden, int64_t heads, int64_t extra) {
  require<InternalError>(heads > 0 && hidden % heads == 0, heads, " heads do not divide ", hidden,
                         " hidden units");
  std::vector<int64_t> widths(static_cast<size_t>(heads), hidden / heads);
  widths.back() += extra;
  return widths;
}

Tensor slow_pass(const FastWeightWeights& weights, const FastWeightOptions& options,
                 const Tensor& hidden_btd) {
  return slow_activations(weights, options, hidden_btd).normed_btd;
}

int64_t inner_steps(const FastWeightWeights& weights) {
  return 1 + static_cast<int64_t>(weights.more_steps.size());
}

FastWeightWeights weights_of_step(const FastWeightWeights& weights, int64_t step) {
  FastWeightWeights w = weights;
  w.more_steps.clear();
  if (step == 0) return w;
  const StepRates& rates = weights.more_steps.at(static_cast<size_t>(step - 1));
  w.step_size1 = rates.step_size1;
  w.step_size2 = rates.step_size2;
  w.log_decay1 = rates.log_decay1;
  w.log_decay2 = rates.log_decay2;
  return w;
}

FastWeightState state_of_step(const FastWeightState& state, int64_t step, int64_t steps) {
  if (steps == 1) return state;
  const auto part = [&](const Tensor& t) {
    const int64_t rows = t.defined() ? t.size(1) / steps : 0;
    return t.defined() ? t.narrow(1, step * rows, rows) : t;
  };
  return {part(state.dense1_bfd), part(state.dense2_bdf), part(state.norm_bd)};
}

FastWeightState join_steps(const std::vector<FastWeightState>& states) {
  if (states.size() == 1) return states.front();
  const auto joined = [&](Tensor FastWeightState::*member) {
    std::vector<Tensor> parts;
    for (const FastWeightState& state : states) {
      if ((state.*member).defined()) parts.push_back(state.*member);
    }
    return parts.empty() ? Tensor() : at::cat(parts, 1);
  };
  return {joined(&FastWeightState::dense1_bfd), joined(&FastWeightState::dense2_bdf),
          joined(&FastWeightState::norm_bd)};
}

FastWeightResult fast_weight_layer(const FastWeightWeights& w, const FastWeightOptions& options,
                                   const Tensor& hidden_btd, const LossTokens& tokens,
                                   const FastWeightState& inbound, StateExchange* exchange,
                                   bool wants_state) {
  const int64_t steps = inner_steps(w);
  require<InternalError>(steps == 1 || !options.fast_norm, "several inner steps with a fast norm");
  FastWeightResult result;
  const Activations slow = slow_activations(w, options, hidden_btd);
  const Tensor gate_bt1 = write_gate(w, slow.input_btd, tokens);
  result.slow_normed_btd = slow.normed_btd;
  Activations pass = slow;
  std::vector<FastWeightState> states;
  for (int64_t k = 0; k < steps; ++k) {
    const FastWeightWeights at_step = weights_of_step(w, k);
    const InnerLoss inner =
        inner_loss(pass.normed_btd.flatten(0, 1), w.unembedding, tokens.label_bt.flatten(),
                   (tokens.weight_bt * options.inner_loss_scale).flatten());
    if (k == 0) result.slow_nll_bt = inner.nll_n.view(tokens.label_bt.sizes());
    const InnerGradients g =
        inner_gradients(at_step, options, pass, inner.gradient_nd.view_as(pass.normed_btd), gate_bt1);
    FastTensors fast = fast_tensors(at_step, options, tokens, pass, g, state_of_step(inbound, k, steps),
                                    exchange, wants_state);
    pass = fast_activations(at_step, options, tokens, slow, fast);
    if (wants_state) states.push_back(outbound_state(fast));
  }
  result.fast_normed_btd = pass.normed_btd;
  if (wants_state) result.state = join_steps(states);
  return result;
}

}  // namespace fwl
