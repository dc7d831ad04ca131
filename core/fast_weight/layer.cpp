#include "core/fast_weight/layer.h"

#include "core/base/error.h"
#include "core/fast_weight/fast_tensors.h"
#include "core/fast_weight/norm_gradient.h"
#include "core/kernels/activation.h"
#include "core/kernels/norm.h"
#include "core/kernels/step_rows.h"

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

Activations slow_activations(const FastWeightWeights& w, const FastWeightOptions& options,
                             const Tensor& hidden_btd) {
  Activations s;
  if (!w.dense1_fd.defined()) {
    const AddNorm out = output_norm(w, options, hidden_btd, {});
    s.output_btd = out.sum;
    s.normed_btd = out.norm;
    return s;
  }
  const AddNorm in = w.input_norm_scale_d.defined() ? add_norm(hidden_btd, {}, w.input_norm_scale_d,
                                                               w.input_norm_bias_d, options.norm_epsilon)
                                                    : AddNorm{hidden_btd, hidden_btd};
  s.input_btd = in.norm;
  if (options.residual) s.residual_btd = in.sum;
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
  // In the accumulation type before it is looked up, so that a frequent token's gradients are added up there.
  if (w.write_gate_v.defined())
    add(w.write_gate_v.to(tokens.weight_bt.scalar_type())
            .index_select(0, tokens.label_bt.flatten())
            .view_as(tokens.label_bt)
            .unsqueeze(-1));
  return logit_bt1.defined() ? 2 * at::sigmoid(logit_bt1) : Tensor();
}

Tensor gated(const Tensor& gradient_btk, const Tensor& gate_bt1) {
  if (!gradient_btk.defined() || !gate_bt1.defined()) return gradient_btk;
  return gradient_btk * gate_bt1.to(gradient_btk.scalar_type());
}

// g2 = J_norm^T q and g1 = (relu^2)'(u) * (W2^T g2), of every token alone, where the pass was. `q_btd` is
// the gradient of the weighted inner loss with respect to the normed output. All are linear in it: a gate
// may come after them, where the outer gradient is cut (`gate_bt1`; undefined: none).
InnerGradients inner_gradients(const FastWeightWeights& w, const FastWeightOptions& options,
                               const Activations& s, const Tensor& q_btd, const Tensor& gate_bt1) {
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
  if (options.second_order) return g;
  for (Tensor* gradient : {&g.dense1_btf, &g.dense2_btd, &g.norm_bt2d})
    if (gradient->defined()) *gradient = gated(gradient->detach(), gate_bt1);
  return g;
}

// `gate_bt1`: a factor of the gradient; undefined: none. `w` has all inner steps: their residuals are kept
// together.
InnerLoss inner_loss_of(const Activations& pass, const FastWeightWeights& w, const FastWeightOptions& options,
                        const LossTokens& tokens, const Tensor& gate_bt1) {
  const Tensor x_nd = pass.normed_btd.flatten(0, 1), label_n = tokens.label_bt.flatten();
  Tensor weight_n = (tokens.weight_bt * options.inner_loss_scale).flatten();
  if (gate_bt1.defined()) weight_n = weight_n * gate_bt1.flatten();
  if (!at::GradMode::is_enabled())
    return inner_loss_without_gradient(x_nd, w.unembedding, label_n, weight_n, options.inner);
  require<InternalError>(options.inner.exact(), "a gradient through approximate inner gradients");
  // First order: the loss alone has a gradient, which needs no Hessian.
  const double hessian_threshold = options.second_order ? options.hessian_threshold : 1;
  const bool keeps = keeps_residuals(x_nd.size(0), w.unembedding.weight_vd.size(0), x_nd.scalar_type(),
                                     x_nd.device(), inner_steps(w));
  return inner_loss(x_nd, w.unembedding, label_n, weight_n,
                    keeps ? Residuals::kKept : Residuals::kComputedAgain, hessian_threshold);
}

// What FastWeightResult::inner_use adds up.
Tensor inner_use_of(const InnerLoss& inner, const LossTokens& tokens) {
  const Tensor counts_n = (tokens.weight_bt.flatten() != 0).to(at::kDouble);
  return at::stack({counts_n.sum(), at::dot(inner.kept_n.to(at::kDouble), counts_n),
                    at::dot(inner.rest_n.to(at::kDouble), counts_n)});
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

// Scale and bias of the output norm as every position sees them: scale - step * (decayed sum of gradients).
Tensor fast_output_norm(const FastWeightWeights& w, const FastWeightOptions& options,
                        const Tensor& output_btd, const Tensor& sum_bt2d) {
  const int64_t d = output_btd.size(-1);
  const Tensor xhat_btd = layer_norm(output_btd, {}, {}, options.norm_epsilon);
  return xhat_btd * step_rows(w.norm_scale_d, sum_bt2d.narrow(-1, 0, d), w.step_size_norm) +
         step_rows(w.norm_bias_d, sum_bt2d.narrow(-1, d, d), w.step_size_norm);
}

// What a pass teaches the next one.
KeysAndValues learned_from(const FastWeightWeights& w, const FastWeightOptions& options,
                           const Activations& pass, const InnerGradients& g) {
  const bool both = options.fast_layers == FastLayers::kBoth;
  return {both ? keys_of(w, options, pass.input_btd) : Tensor(), g.dense1_btf,
          keys_of(w, options, pass.act_btf), g.dense2_btd, g.norm_bt2d};
}

// A pass at fast weights, which also exchanges the states. All of them come from the pass before, so that one
// exchange serves them all: while it is under way the first layer attends to the shard's own positions.
Activations fast_activations(const FastWeightWeights& w, const FastWeightOptions& options,
                             const Activations& slow, FastTensors& fast) {
  const bool both = options.fast_layers == FastLayers::kBoth;
  Activations pass = slow;
  fast.start_exchange();
  Tensor query1_btd;
  if (both) query1_btd = queries_of(w, options, slow.input_btd, w.query_gain1_d);
  const std::vector<Tensor> local = both ? fast.first_local(query1_btd) : std::vector<Tensor>();
  fast.finish_exchange();

  if (both) {
    pass.before_act_btf = step_rows(with_start(slow.before_act_btf, slow.input_btd, w.start1_fd),
                                    fast.first_sum(local, query1_btd), w.step_size1);
    pass.act_btf = squared_relu(pass.before_act_btf);
  }
  const Tensor sum_btd = fast.second_sum(queries_of(w, options, pass.act_btf, w.query_gain2_f));
  // With the first layer slow, the slow pass has this product already, residual and all.
  const Tensor slow_out_btd =
      with_start(both ? at::linear(pass.act_btf, w.dense2_df, w.dense2_bias_d) : slow.output_btd,
                 pass.act_btf, w.start2_df);
  const AddNorm out = output_norm(w, options, step_rows(slow_out_btd, sum_btd, w.step_size2),
                                  both ? slow.residual_btd : Tensor());
  pass.output_btd = out.sum;
  pass.normed_btd = options.fast_norm ? fast_output_norm(w, options, out.sum, fast.norm_sum()) : out.norm;
  return pass;
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
  const int64_t steps = inner_steps(w);
  require<InternalError>(steps == 1 || !options.fast_norm, "several inner steps with a fast norm");
  FastWeightResult result;
  const Activations slow = slow_activations(w, options, hidden_btd);
  const Tensor gate_bt1 = write_gate(w, slow.input_btd, tokens);
  // The gate is a factor of the loss's weights, which saves passes over the gradients; where those are cut
  // off from the outer gradient, of the gradients themselves.
  const bool cut = at::GradMode::is_enabled() && !options.second_order;
  const Tensor loss_gate_bt1 = cut ? Tensor() : gate_bt1, gradient_gate_bt1 = cut ? gate_bt1 : Tensor();
  result.slow_normed_btd = slow.normed_btd;
  Activations pass = slow;
  std::vector<FastWeightState> states;
  for (int64_t k = 0; k < steps; ++k) {
    const FastWeightWeights at_step = weights_of_step(w, k);
    const InnerLoss inner = inner_loss_of(pass, w, options, tokens, loss_gate_bt1);
    if (inner.kept_n.defined()) {
      const Tensor use = inner_use_of(inner, tokens);
      result.inner_use = k == 0 ? use : result.inner_use + use;
    }
    if (k == 0) result.slow_nll_bt = inner.nll_n.view(tokens.label_bt.sizes());
    const InnerGradients g = inner_gradients(at_step, options, pass,
                                             inner.gradient_nd.view_as(pass.normed_btd), gradient_gate_bt1);
    FastTensors fast(at_step, options, tokens, learned_from(at_step, options, pass, g),
                     state_of_step(inbound, k, steps), exchange, wants_state);
    pass = fast_activations(at_step, options, slow, fast);
    if (wants_state) states.push_back(fast.outbound());
  }
  result.fast_normed_btd = pass.normed_btd;
  if (wants_state) result.state = join_steps(states);
  return result;
}

}  // namespace fwl
