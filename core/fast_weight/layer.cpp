#include "core/fast_weight/layer.h"

#include "core/fast_weight/linear_attention.h"
#include "core/fast_weight/norm_gradient.h"

namespace fwl {
namespace {

// What the slow pass leaves for the inner backward and for the fast pass.
struct Activations {
  Tensor input_btd;       // z: input norm of h, or h
  Tensor residual_btd;    // h with a residual, else undefined
  Tensor before_act_btf;  // u
  Tensor act_btf;         // a = relu(u)^2
  Tensor output_btd;      // o: before the output norm
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
  return at::relu(u).square();
}

// x W^T + bias, plus the residual when there is one.
Tensor second_dense(const FastWeightWeights& w, const Tensor& act_btf, const Tensor& residual_btd) {
  const Tensor out_btd = at::linear(act_btf, w.dense2_df, w.dense2_bias_d);
  return residual_btd.defined() ? out_btd + residual_btd : out_btd;
}

Activations slow_activations(const FastWeightWeights& w, const FastWeightOptions& options,
                             const Tensor& hidden_btd) {
  Activations s;
  s.input_btd = w.input_norm_scale_d.defined()
                    ? layer_norm(hidden_btd, w.input_norm_scale_d, w.input_norm_bias_d, options.norm_epsilon)
                    : hidden_btd;
  if (options.residual) s.residual_btd = hidden_btd;
  s.before_act_btf = at::linear(s.input_btd, w.dense1_fd, w.dense1_bias_f);
  s.act_btf = squared_relu(s.before_act_btf);
  s.output_btd = second_dense(w, s.act_btf, s.residual_btd);
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
    g.dense1_btf = at::matmul(g.dense2_btd, w.dense2_df) * (2 * at::relu(s.before_act_btf));
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

// Applies the fast part of one dense layer: step_size * (S_t query_t), and the state after the last position.
Tensor fast_part(const FastWeightOptions& options, const LossTokens& tokens, const Tensor& query,
                 const Tensor& key, const Tensor& value, const Tensor& log_decay, const Tensor& step_size,
                 const Tensor& inbound, Tensor* outbound) {
  const LinearAttentionResult sum =
      linear_attention(with_bias_input(query, options), with_bias_input(key, options), value, log_decay,
                       tokens.document_start_bt, inbound, options.chunk);
  *outbound = sum.state_bvk;
  return sum.out_btv * step_size.to(value.scalar_type());
}

// Scale and bias of the output norm as every position sees them: scale - step * (decayed sum of gradients).
Tensor fast_output_norm(const FastWeightWeights& w, const FastWeightOptions& options,
                        const LossTokens& tokens, const Tensor& output_btd, const Tensor& gradient_bt2d,
                        const Tensor& inbound, Tensor* outbound) {
  const Tensor ones_bt1 =
      at::ones({gradient_bt2d.size(0), gradient_bt2d.size(1), 1}, gradient_bt2d.options());
  const LinearAttentionResult sum = linear_attention(ones_bt1, ones_bt1, gradient_bt2d, w.log_decay_norm,
                                                     tokens.document_start_bt, inbound, options.chunk);
  *outbound = sum.state_bvk;
  const int64_t d = output_btd.size(-1);
  const Tensor step = w.step_size_norm.to(gradient_bt2d.scalar_type());
  const Tensor xhat_btd = layer_norm(output_btd, {}, {}, options.norm_epsilon);
  return xhat_btd * (w.norm_scale_d - step * sum.out_btv.narrow(-1, 0, d)) +
         (w.norm_bias_d - step * sum.out_btv.narrow(-1, d, d));
}

}  // namespace

Tensor slow_pass(const FastWeightWeights& weights, const FastWeightOptions& options,
                 const Tensor& hidden_btd) {
  const Activations s = slow_activations(weights, options, hidden_btd);
  return layer_norm(s.output_btd, weights.norm_scale_d, weights.norm_bias_d, options.norm_epsilon);
}

FastWeightResult fast_weight_layer(const FastWeightWeights& w, const FastWeightOptions& options,
                                   const Tensor& hidden_btd, const LossTokens& tokens,
                                   const FastWeightState& inbound) {
  FastWeightResult result;
  const Activations s = slow_activations(w, options, hidden_btd);
  result.slow_normed_btd = layer_norm(s.output_btd, w.norm_scale_d, w.norm_bias_d, options.norm_epsilon);
  const InnerLoss inner =
      inner_loss(result.slow_normed_btd.flatten(0, 1), w.unembedding, tokens.label_bt.flatten(),
                 (tokens.weight_bt * options.inner_loss_scale).flatten());
  result.slow_nll_bt = inner.nll_n.view(tokens.label_bt.sizes());
  const InnerGradients g = inner_gradients(w, options, s, inner.gradient_nd.view_as(result.slow_normed_btd));

  Tensor fast_act_btf = s.act_btf;
  if (options.fast_layers == FastLayers::kBoth) {
    const Tensor step_btf =
        fast_part(options, tokens, with_gain(s.input_btd, w.query_gain1_d), s.input_btd, g.dense1_btf,
                  w.log_decay1, w.step_size1, inbound.dense1_bfd, &result.state.dense1_bfd);
    fast_act_btf = squared_relu(s.before_act_btf - step_btf);
  }
  const Tensor step_btd =
      fast_part(options, tokens, with_gain(fast_act_btf, w.query_gain2_f), s.act_btf, g.dense2_btd,
                w.log_decay2, w.step_size2, inbound.dense2_bdf, &result.state.dense2_bdf);
  // With the first layer slow, the slow pass has this product already.
  const Tensor slow_output_btd =
      options.fast_layers == FastLayers::kBoth ? second_dense(w, fast_act_btf, s.residual_btd) : s.output_btd;
  const Tensor output_btd = slow_output_btd - step_btd;
  result.fast_normed_btd = options.fast_norm
                               ? fast_output_norm(w, options, tokens, output_btd, g.norm_bt2d,
                                                  inbound.norm_bd, &result.state.norm_bd)
                               : layer_norm(output_btd, w.norm_scale_d, w.norm_bias_d, options.norm_epsilon);
  return result;
}

}  // namespace fwl
