#include "core/fast_weight/layer.h"

#include "core/fast_weight/linear_attention.h"
#include "core/fast_weight/norm_gradient.h"
#include "core/kernels/activation.h"
#include "core/kernels/norm.h"

namespace fwl {
namespace {

// What the slow pass leaves for the inner backward and for the fast pass.
struct Activations {
  Tensor input_btd;       // z: input norm of h, or h
  Tensor residual_btd;    // h with a residual, else undefined
  Tensor before_act_btf;  // u
  Tensor act_btf;         // a = relu(u)^2
  Tensor output_btd;      // o: before the output norm
  Tensor normed_btd;      // n: input of the unembedding
};

// Value gradients of the slow pass; the keys are the activations themselves.
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

Tensor detach_unless(bool differentiable, const Tensor& t) {
  return differentiable ? t : t.detach();
}

// g2 = J_norm^T q and g1 = (relu^2)'(u) * (W2^T g2), of every token alone, at the slow weights. `q_btd` is
// the gradient of the weighted inner loss with respect to the normed output.
InnerGradients inner_gradients(const FastWeightWeights& w, const FastWeightOptions& options,
                               const Activations& s, const Tensor& q_btd) {
  InnerGradients g;
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
  g.dense2_btd = detach_unless(options.second_order, g.dense2_btd);
  if (g.dense1_btf.defined()) g.dense1_btf = detach_unless(options.second_order, g.dense1_btf);
  if (g.norm_bt2d.defined()) g.norm_bt2d = detach_unless(options.second_order, g.norm_bt2d);
  return g;
}

// A constant 1 joins queries and keys when biases are fast: its score adds every earlier value once.
Tensor with_bias_input(const Tensor& x_btk, const FastWeightOptions& options) {
  return options.fast_biases ? at::constant_pad_nd(x_btk, {0, 1}, 1) : x_btk;
}

Tensor with_gain(const Tensor& query, const Tensor& gain) {
  return gain.defined() ? query * gain : query;
}

// One tensor of fast weights: its keys and values come from the slow pass, its queries from the fast one.
struct FastTensor {
  Tensor key_btk, value_btv, log_decay;
  int64_t chunk;
  std::optional<ShardDecay> decay;  // only where states come in or go out
  LocalStates local;
  Tensor given_bvk;    // inbound state that the caller gave; may be undefined
  Tensor inbound_bvk;  // state before the first position; may be undefined: zero
  bool used() const { return key_btk.defined(); }
};

FastTensor fast_tensor(const FastWeightOptions& options, const LossTokens& tokens, const Tensor& key,
                       const Tensor& value, const Tensor& log_decay, const Tensor& given, bool total) {
  FastTensor f{with_bias_input(key, options), value, log_decay, options.chunk, {}, {}, given, given};
  if (f.chunk <= 0) f.chunk = fastest_chunk(key.size(1), f.key_btk.size(2), value.size(2), key.device());
  if (total || given.defined())
    f.decay = shard_decay(log_decay, tokens.document_start_bt, key.size(1), tokens.weight_bt.scalar_type());
  f.local = local_states(f.key_btk, value, log_decay, tokens.document_start_bt,
                         total ? f.decay : std::nullopt, f.chunk);
  return f;
}

// After the last position, from what is before the first.
Tensor outbound_state(const FastTensor& f, const Tensor& inbound_bvk) {
  return inbound_bvk.defined() ? f.local.total_bvk + f.decay->carry_b11 * inbound_bvk : f.local.total_bvk;
}

// The fast tensors of the block, and where their inbound states come from.
struct FastTensors {
  FastTensor dense1, dense2, norm;
  StateExchange* exchange;

  std::vector<FastTensor*> used() {
    std::vector<FastTensor*> list;
    for (FastTensor* f : {&dense1, &dense2, &norm}) {
      if (f->used()) list.push_back(f);
    }
    return list;
  }
  void start_exchange() {
    if (exchange == nullptr) return;
    std::vector<ShardState> shards;
    for (const FastTensor* f : used())
      shards.push_back({outbound_state(*f, f->given_bvk), f->decay->carry_b11});
    exchange->start(shards);
  }
  void finish_exchange() {
    if (exchange == nullptr) return;
    const std::vector<Tensor> before = exchange->finish();
    const std::vector<FastTensor*> list = used();
    for (size_t i = 0; i < list.size(); ++i) {
      FastTensor& f = *list[i];
      f.inbound_bvk = f.given_bvk.defined() ? before[i] + f.given_bvk : before[i];
    }
  }
};

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

FastTensors fast_tensors(const FastWeightWeights& w, const FastWeightOptions& options,
                         const LossTokens& tokens, const Activations& s, const InnerGradients& g,
                         const FastWeightState& inbound, StateExchange* exchange, bool wants_state) {
  FastTensors f{{}, {}, {}, exchange};
  const bool total = wants_state || exchange != nullptr;
  if (options.fast_layers == FastLayers::kBoth)
    f.dense1 =
        fast_tensor(options, tokens, s.input_btd, g.dense1_btf, w.log_decay1, inbound.dense1_bfd, total);
  f.dense2 = fast_tensor(options, tokens, s.act_btf, g.dense2_btd, w.log_decay2, inbound.dense2_bdf, total);
  if (options.fast_norm) {
    FastWeightOptions no_bias = options;
    no_bias.fast_biases = false;
    const Tensor ones_bt1 = at::ones({s.input_btd.size(0), s.input_btd.size(1), 1}, g.norm_bt2d.options());
    f.norm = fast_tensor(no_bias, tokens, ones_bt1, g.norm_bt2d, w.log_decay_norm, inbound.norm_bd, total);
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

}  // namespace

Tensor slow_pass(const FastWeightWeights& weights, const FastWeightOptions& options,
                 const Tensor& hidden_btd) {
  return slow_activations(weights, options, hidden_btd).normed_btd;
}

FastWeightResult fast_weight_layer(const FastWeightWeights& w, const FastWeightOptions& options,
                                   const Tensor& hidden_btd, const LossTokens& tokens,
                                   const FastWeightState& inbound, StateExchange* exchange,
                                   bool wants_state) {
  FastWeightResult result;
  const bool both = options.fast_layers == FastLayers::kBoth;
  const Activations s = slow_activations(w, options, hidden_btd);
  result.slow_normed_btd = s.normed_btd;
  const InnerLoss inner =
      inner_loss(result.slow_normed_btd.flatten(0, 1), w.unembedding, tokens.label_bt.flatten(),
                 (tokens.weight_bt * options.inner_loss_scale).flatten());
  result.slow_nll_bt = inner.nll_n.view(tokens.label_bt.sizes());
  const InnerGradients g = inner_gradients(w, options, s, inner.gradient_nd.view_as(result.slow_normed_btd));

  // All states come from the slow pass, so that one exchange serves them all. While it is under way the first
  // layer attends to the shard's own positions.
  FastTensors fast = fast_tensors(w, options, tokens, s, g, inbound, exchange, wants_state);
  fast.start_exchange();
  const auto query_of = [&](const Tensor& x, const Tensor& gain) {
    return with_bias_input(with_gain(x, gain), options);
  };
  Tensor query1_btd, local1_btf;
  if (both) {
    query1_btd = query_of(s.input_btd, w.query_gain1_d);
    local1_btf = local_part(tokens, query1_btd, fast.dense1);
  }
  fast.finish_exchange();

  Tensor fast_act_btf = s.act_btf;
  if (both) {
    const Tensor sum_btf = with_inbound(local1_btf, query1_btd, fast.dense1);
    fast_act_btf = squared_relu(stepped(s.before_act_btf, sum_btf, w.step_size1));
  }
  const Tensor sum_btd = fast_sum(tokens, query_of(fast_act_btf, w.query_gain2_f), fast.dense2);
  // With the first layer slow, the slow pass has this product already, residual and all.
  const Tensor slow_out_btd = both ? at::linear(fast_act_btf, w.dense2_df, w.dense2_bias_d) : s.output_btd;
  const AddNorm out =
      output_norm(w, options, stepped(slow_out_btd, sum_btd, w.step_size2), both ? s.residual_btd : Tensor());
  result.fast_normed_btd =
      options.fast_norm ? fast_output_norm(w, options, tokens, out.sum, fast.norm) : out.norm;

  if (!wants_state) return result;
  if (both) result.state.dense1_bfd = outbound_state(fast.dense1, fast.dense1.inbound_bvk);
  result.state.dense2_bdf = outbound_state(fast.dense2, fast.dense2.inbound_bvk);
  if (options.fast_norm) result.state.norm_bd = outbound_state(fast.norm, fast.norm.inbound_bvk);
  return result;
}

}  // namespace fwl
