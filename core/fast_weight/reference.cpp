#include "core/fast_weight/reference.h"

#include "core/base/error.h"

namespace fwl {
namespace {

// The weights that a token's gradient is taken of, by name: W1, W2 and, where fast, the biases and the norm.
struct BlockWeights {
  Tensor dense1_fd, dense1_bias_f, dense2_df, dense2_bias_d, norm_scale_d, norm_bias_d;
};

BlockWeights slow_weights(const FastWeightWeights& w) {
  return {w.dense1_fd, w.dense1_bias_f, w.dense2_df, w.dense2_bias_d, w.norm_scale_d, w.norm_bias_d};
}

Tensor norm(const Tensor& x_d, const Tensor& scale_d, const Tensor& bias_d, double epsilon) {
  const Tensor centred = x_d - x_d.mean();
  return scale_d * centred / (centred.square().mean() + epsilon).sqrt() + bias_d;
}

// Input of the unembedding for one token.
Tensor block_output(const BlockWeights& b, const FastWeightOptions& options, const Tensor& z_d,
                    const Tensor& residual_d) {
  const Tensor act_f = at::relu(at::mv(b.dense1_fd, z_d) + b.dense1_bias_f).square();
  const Tensor out_d = at::mv(b.dense2_df, act_f) + b.dense2_bias_d;
  return norm(options.residual ? out_d + residual_d : out_d, b.norm_scale_d, b.norm_bias_d,
              options.norm_epsilon);
}

Tensor logits(const Tensor& normed_d, const Unembedding& u) {
  const Tensor logits_v = at::mv(u.weight_vd, normed_d);
  return u.bias_v.defined() ? logits_v + u.bias_v : logits_v;
}

Tensor nll_of(const Tensor& logits_v, const Tensor& label) {
  return at::logsumexp(logits_v, {0}) - logits_v.gather(0, label.view({1})).squeeze(0);
}

// p - y, where the logits of tokens whose probability is below the threshold are constants: no gradient flows
// through the errors to them.
Tensor errors(const Tensor& logits_v, const Tensor& label, double threshold) {
  const Tensor is_likely_v = at::softmax(logits_v.detach(), 0) >= threshold;
  const Tensor seen_v =
      threshold < 1 ? at::where(is_likely_v, logits_v, logits_v.detach()) : logits_v.detach();
  return at::softmax(seen_v, 0) - at::one_hot(label, logits_v.size(0));
}

// Rows of a weight times a per-row (or scalar) step size.
Tensor scale_rows(const Tensor& step, const Tensor& weight) {
  return step.dim() == 1 && weight.dim() == 2 ? step.unsqueeze(1) * weight : step * weight;
}
Tensor scale_columns(const Tensor& weight, const Tensor& gain) {
  return gain.defined() ? weight * gain.unsqueeze(0) : weight;
}

// An input as a key: of the length sqrt(d).
Tensor unit(const Tensor& x, int64_t d) {
  return x / (x.square().sum() / static_cast<double>(d) + 1e-6).sqrt();
}

// One inner step: its sums, and the weights they make.
class StepByToken {
 public:
  StepByToken(const FastWeightWeights& weights, const FastWeightOptions& options)
      : w_(weights), options_(options) {
    reset();
  }

  // Document start: everything learned is forgotten.
  void reset() {
    const BlockWeights slow = slow_weights(w_);
    sum_ = {at::zeros_like(slow.dense1_fd),    at::zeros_like(slow.dense1_bias_f),
            at::zeros_like(slow.dense2_df),    at::zeros_like(slow.dense2_bias_d),
            at::zeros_like(slow.norm_scale_d), at::zeros_like(slow.norm_bias_d)};
  }

  // W_t = W + start - step * S_t, written out as matrices. Where queries are scaled, S_t is instead: one
  // scale for the token's whole input.
  BlockWeights fast_weights(const Tensor& z_d) const {
    BlockWeights b = slow_weights(w_);
    if (w_.start1_fd.defined()) b.dense1_fd = b.dense1_fd + w_.start1_fd;
    if (w_.start2_df.defined()) b.dense2_df = b.dense2_df + w_.start2_df;
    if (options_.fast_layers == FastLayers::kBoth) {
      b.dense1_fd = b.dense1_fd - query_scale(z_d) * scale_columns(scale_rows(w_.step_size1, sum_.dense1_fd),
                                                                   w_.query_gain1_d);
      if (options_.fast_biases) b.dense1_bias_f = b.dense1_bias_f - w_.step_size1 * sum_.dense1_bias_f;
    }
    const Tensor act_f = at::relu(at::mv(b.dense1_fd, z_d) + b.dense1_bias_f).square();
    b.dense2_df = b.dense2_df - query_scale(act_f) * scale_columns(scale_rows(w_.step_size2, sum_.dense2_df),
                                                                   w_.query_gain2_f);
    if (options_.fast_biases) b.dense2_bias_d = b.dense2_bias_d - w_.step_size2 * sum_.dense2_bias_d;
    if (options_.fast_norm) {
      b.norm_scale_d = b.norm_scale_d - w_.step_size_norm * sum_.norm_scale_d;
      b.norm_bias_d = b.norm_bias_d - w_.step_size_norm * sum_.norm_bias_d;
    }
    return b;
  }

  // S_{t+1} = decay S_t + gate * gradient of this token's inner loss at the weights `at`, whose pass it was:
  // the slow ones, where autograd gives it, or those of the step before.
  void learn(const BlockWeights& at, bool is_slow_pass, const Tensor& z_d, const Tensor& hidden_d,
             const Tensor& label, const Tensor& weight) {
    const bool second = options_.second_order;
    const auto constant = [&](const Tensor& t) { return second ? t : t.detach(); };
    // Gradients with respect to copies: the graph behind z and the weights stays for the outer gradient.
    std::vector<Tensor> inputs = {at.dense1_fd,     at.dense1_bias_f, at.dense2_df,
                                  at.dense2_bias_d, at.norm_scale_d,  at.norm_bias_d};
    for (Tensor& t : inputs) t = t.requires_grad() ? t * 1 : t.detach().requires_grad_(true);
    const BlockWeights point = {inputs[0], inputs[1], inputs[2], inputs[3], inputs[4], inputs[5]};
    const Tensor logits_v = logits(block_output(point, options_, z_d, hidden_d), w_.unembedding);
    const Tensor scale = weight * options_.inner_loss_scale;
    auto g = options_.hessian_threshold == 0
                 ? torch::autograd::grad({nll_of(logits_v, label) * scale}, inputs, {}, true, true)
                 : torch::autograd::grad({logits_v}, inputs,
                                         {errors(logits_v, label, options_.hessian_threshold) * scale}, true,
                                         /*create_graph=*/true);
    const Tensor before_act_f = at::mv(at.dense1_fd, z_d) + at.dense1_bias_f;
    const Tensor act_f = at::relu(before_act_f).square();
    // Later steps: back to the first layer through the slow second one.
    if (!is_slow_pass) g[1] = 2 * at::relu(before_act_f) * at::mv(w_.dense2_df.t(), g[3]);
    // The gradient of a dense layer's bias is the gradient of its output; times the input it is that of the
    // weight.
    const bool whole = is_slow_pass && second && options_.key_norm == KeyNorm::kNone;
    const Tensor written = gate(z_d, label);
    const Tensor weight1 = written * (whole ? g[0] : at::outer(constant(g[1]), key(z_d)));
    const Tensor weight2 = written * (whole ? g[2] : at::outer(constant(g[3]), key(act_f)));
    // One decay a hidden unit; the last head's for the second bias.
    const int64_t hidden = act_f.size(0);
    const auto decay_of_units = [&](const Tensor& log_decay) {
      if (!log_decay.defined()) return at::ones({hidden}, z_d.options());
      if (log_decay.dim() == 0) return log_decay.exp().expand({hidden});
      return log_decay.exp().repeat_interleave(hidden / log_decay.size(0));
    };
    const Tensor decay1_f = decay_of_units(w_.log_decay1), decay2_f = decay_of_units(w_.log_decay2);
    sum_.dense1_fd = decay1_f.unsqueeze(1) * sum_.dense1_fd + weight1;
    sum_.dense1_bias_f = decay1_f * sum_.dense1_bias_f + written * constant(g[1]);
    sum_.dense2_df = sum_.dense2_df * decay2_f + weight2;
    sum_.dense2_bias_d = decay2_f[hidden - 1] * sum_.dense2_bias_d + written * constant(g[3]);
    if (!options_.fast_norm) return;
    sum_.norm_scale_d = w_.log_decay_norm.exp() * sum_.norm_scale_d + written * constant(g[4]);
    sum_.norm_bias_d = w_.log_decay_norm.exp() * sum_.norm_bias_d + written * constant(g[5]);
  }

 private:
  Tensor query_scale(const Tensor& input) const {
    if (options_.key_norm != KeyNorm::kKeysAndQueries) return at::ones({}, input.options());
    return (input.square().sum() / static_cast<double>(w_.dense1_fd.size(1)) + 1e-6).rsqrt();
  }
  Tensor key(const Tensor& input) const {
    return options_.key_norm == KeyNorm::kNone ? input : unit(input, w_.dense1_fd.size(1));
  }
  Tensor gate(const Tensor& z_d, const Tensor& label) const {
    Tensor logit = at::zeros({}, z_d.options());
    if (w_.write_gate_d.defined()) logit = logit + at::dot(w_.write_gate_d, z_d);
    if (w_.write_gate_v.defined()) logit = logit + w_.write_gate_v[label.item<int64_t>()];
    return 2 / (1 + (-logit).exp());
  }

  const FastWeightWeights w_;
  const FastWeightOptions& options_;
  BlockWeights sum_;  // S_t, per weight
};

}  // namespace

FastWeightResult fast_weight_layer_by_token(const FastWeightWeights& weights,
                                            const FastWeightOptions& options, const Tensor& hidden_btd,
                                            const LossTokens& tokens) {
  std::vector<Tensor> slow_rows, fast_rows, nll_rows;
  const auto input_of = [&](const Tensor& hidden_d) {
    return weights.input_norm_scale_d.defined()
               ? norm(hidden_d, weights.input_norm_scale_d, weights.input_norm_bias_d, options.norm_epsilon)
               : hidden_d;
  };
  for (int64_t b = 0; b < hidden_btd.size(0); ++b) {
    std::vector<StepByToken> steps;
    for (int64_t k = 0; k < inner_steps(weights); ++k)
      steps.emplace_back(weights_of_step(weights, k), options);
    for (int64_t t = 0; t < hidden_btd.size(1); ++t) {
      const bool starts = tokens.document_start_bt.defined() && tokens.document_start_bt[b][t].item<bool>();
      const Tensor hidden_d = hidden_btd[b][t];
      const Tensor z_d = input_of(hidden_d);
      const Tensor label = tokens.label_bt[b][t];
      BlockWeights at = slow_weights(weights);
      slow_rows.push_back(block_output(at, options, z_d, hidden_d));
      nll_rows.push_back(nll_of(logits(slow_rows.back(), weights.unembedding), label));
      for (size_t k = 0; k < steps.size(); ++k) {
        if (starts) steps[k].reset();
        const BlockWeights next = steps[k].fast_weights(z_d);
        steps[k].learn(at, k == 0, z_d, hidden_d, label, tokens.weight_bt[b][t]);
        at = next;
      }
      fast_rows.push_back(block_output(at, options, z_d, hidden_d));
    }
  }
  FastWeightResult result;
  result.slow_normed_btd = at::stack(slow_rows).view_as(hidden_btd);
  result.fast_normed_btd = at::stack(fast_rows).view_as(hidden_btd);
  result.slow_nll_bt = at::stack(nll_rows).view_as(tokens.label_bt);
  return result;
}

}  // namespace fwl
