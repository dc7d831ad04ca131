#include "core/fast_weight/step.h"

#include <cmath>

#include "core/fast_weight/norm_gradient.h"
#include "core/kernels/likely_gradient.h"
#include "core/kernels/row_products.h"
#include "core/kernels/softmax_rows.h"
#include "core/kernels/upload.h"

namespace fwl {
namespace {

Tensor layer_norm(const Tensor& x_nd, const Tensor& scale_d, const Tensor& bias_d, double epsilon) {
  return at::layer_norm(x_nd, {x_nd.size(-1)}, scale_d, bias_d, epsilon);
}

Tensor second_dense(const FastWeightWeights& w, const Tensor& act_nf, const Tensor& residual_nd) {
  const Tensor out_nd = row_product(act_nf, w.dense2_df, w.dense2_bias_d);
  return residual_nd.defined() ? out_nd + residual_nd : out_nd;
}

Tensor with_bias_input(const Tensor& x_nk, bool fast_biases) {
  return fast_biases ? at::constant_pad_nd(x_nk, {0, 1}, 1) : x_nk;
}

bool has_first(const FastWeightOptions& options) {
  return options.fast_layers == FastLayers::kBoth;
}

// The decay of one head's part of a tensor of the state.
struct HeadDecay {
  int64_t dim, first, count;  // which rows (dim 0) or columns (dim 1)
  double decay;
};

// Of the first dense layer's rows, or the second's columns (whose last head has the input of the bias too).
std::vector<HeadDecay> head_decays(const std::vector<double>& decays, int64_t dim, int64_t hidden,
                                   int64_t extra) {
  std::vector<HeadDecay> heads;
  int64_t first = 0;
  const std::vector<int64_t> widths = head_widths(hidden, static_cast<int64_t>(decays.size()), extra);
  for (size_t j = 0; j < widths.size(); ++j) {
    heads.push_back({dim, first, widths[j], decays[j]});
    first += widths[j];
  }
  return heads;
}

// Calls visit(tensor of the state, decays of its heads) for every fast tensor that is used.
template <typename Visit>
void for_each_fast(const FastWeightWeights& w, const HostDecays& decays, FastWeightState& state,
                   Visit visit) {
  const int64_t hidden = w.dense1_fd.size(0);
  if (state.dense1_bfd.defined()) visit(state.dense1_bfd, head_decays(decays.dense1, 0, hidden, 0));
  if (state.dense2_bdf.defined())
    visit(state.dense2_bdf, head_decays(decays.dense2, 1, hidden, state.dense2_bdf.size(1) - hidden));
  if (state.norm_bd.defined()) visit(state.norm_bd, head_decays(decays.norm, 0, state.norm_bd.size(0), 0));
}

// For every row in turn: S <- decay S + v k^T. Heads that are rows are contiguous parts; where they are
// columns, the decay comes apart from the sum.
void learn_head_rows_(Tensor& state_vk, const std::vector<HeadDecay>& heads, const Tensor& value_nv,
                      const Tensor& key_nk) {
  const auto rows = static_cast<size_t>(value_nv.size(0));
  if (heads.size() == 1) {
    add_outer_products_(state_vk, std::vector<double>(rows, heads.front().decay), value_nv, key_nk);
  } else if (heads.front().dim == 0) {
    for (const HeadDecay& h : heads) {
      Tensor part_vk = state_vk.narrow(0, h.first, h.count);
      add_outer_products_(part_vk, std::vector<double>(rows, h.decay),
                          value_nv.narrow(1, h.first, h.count).contiguous(), key_nk);
    }
  } else {
    for (int64_t n = 0; n < value_nv.size(0); ++n) {
      for (const HeadDecay& h : heads) state_vk.narrow(1, h.first, h.count).mul_(h.decay);
      add_outer_products_(state_vk, {1.0}, value_nv.narrow(0, n, 1), key_nk.narrow(0, n, 1));
    }
  }
}

// Keys of a dense layer from its inputs.
Tensor key_rows(const FastWeightWeights& w, const FastWeightOptions& options, const Tensor& input_nk) {
  if (options.key_norm == KeyNorm::kNone) return input_nk;
  return by_row(input_nk, [&](const Tensor& row) { return unit_keys(row, w.dense1_fd.size(1)); });
}

// S query: [1, v] in the accumulation type.
Tensor state_product(const FastWeightWeights& w, const FastWeightOptions& options, const Tensor& input_1k,
                     const Tensor& gain_k, const Tensor& state_vk) {
  Tensor query_1k = options.key_norm == KeyNorm::kKeysAndQueries ? key_rows(w, options, input_1k) : input_1k;
  if (gain_k.defined()) query_1k = query_1k * gain_k;
  return row_product(with_bias_input(query_1k, options.fast_biases).to(state_vk.scalar_type()), state_vk);
}

// Weight of each row's inner loss, [n] in the accumulation type: the scale, and the gate of its token.
Tensor write_weights(const FastWeightWeights& w, const FastWeightOptions& options, const Tensor& input_nd,
                     const Tensor& label_n) {
  const auto wide = w.step_size2.options().requires_grad(false);
  if (!w.write_gate_d.defined() && !w.write_gate_v.defined())
    return at::full({label_n.size(0)}, options.inner_loss_scale, wide);
  Tensor logit_n = at::zeros({label_n.size(0)}, wide);
  if (w.write_gate_d.defined())
    logit_n += row_product(input_nd, w.write_gate_d.unsqueeze(0)).squeeze(1).to(wide.dtype());
  if (w.write_gate_v.defined()) logit_n += w.write_gate_v.index_select(0, label_n).to(wide.dtype());
  return by_row(logit_n, [](const Tensor& x) { return at::sigmoid(x); }) * (2 * options.inner_loss_scale);
}

// x - step * sum, rounded once, to the type of `like`: step sizes and sums are in the accumulation type.
Tensor stepped(const Tensor& x, const Tensor& sum, const Tensor& step_size, const Tensor& like) {
  return (x - sum * step_size).to(like.scalar_type());
}

// With scale and bias of the norm as each row's state has them.
Tensor fast_output_norm(const FastWeightWeights& w, const FastWeightOptions& options, const Tensor& output_nd,
                        const Tensor& sum_n2d) {
  const int64_t d = output_nd.size(1);
  const auto moved = [&](const Tensor& slow_d, int64_t first) {
    return stepped(slow_d, sum_n2d.narrow(1, first, d), w.step_size_norm, output_nd);
  };
  return layer_norm(output_nd, {}, {}, options.norm_epsilon) * moved(w.norm_scale_d, 0) +
         moved(w.norm_bias_d, d);
}

// x, and what the start of the fast weights adds to a dense layer's output.
Tensor with_start(const Tensor& x_nm, const Tensor& input_nk, const Tensor& start_mk) {
  return start_mk.defined() ? x_nm + row_product(input_nk, start_mk) : x_nm;
}

// Of each row's weighted loss with respect to the input of the unembedding.
Tensor output_gradient(const FastWeightWeights& w, const FastWeightOptions& options, const PassRows& rows,
                       const Tensor& label_n) {
  const Unembedding& u = w.unembedding;
  Tensor logits_nv = row_product(rows.normed_nd, u.weight_vd, u.bias_v);
  const Tensor weight_n = write_weights(w, options, rows.input_nd, label_n);
  if (options.inner.threshold > 0) {
    return likely_gradient(logits_nv, label_n, u.weight_vd, u.rest_row_d, options.inner.threshold, weight_n)
        .gradient_nd;
  }
  cross_entropy_gradient_(logits_nv, label_n, weight_n);
  return row_product_transposed(logits_nv, u.weight_vd);
}

}  // namespace

PassRows slow_rows(const FastWeightWeights& w, const FastWeightOptions& options, const Tensor& hidden_nd) {
  PassRows s;
  if (!w.dense1_fd.defined()) {
    s.output_nd = hidden_nd;
    s.normed_nd = layer_norm(hidden_nd, w.norm_scale_d, w.norm_bias_d, options.norm_epsilon);
    return s;
  }
  s.input_nd = w.input_norm_scale_d.defined()
                   ? layer_norm(hidden_nd, w.input_norm_scale_d, w.input_norm_bias_d, options.norm_epsilon)
                   : hidden_nd;
  if (options.residual) s.residual_nd = hidden_nd;
  s.before_act_nf = row_product(s.input_nd, w.dense1_fd, w.dense1_bias_f);
  s.act_nf = at::relu(s.before_act_nf).square();
  s.output_nd = second_dense(w, s.act_nf, s.residual_nd);
  s.normed_nd = layer_norm(s.output_nd, w.norm_scale_d, w.norm_bias_d, options.norm_epsilon);
  return s;
}

namespace {

// Of each tensor that is defined.
template <typename Function>
PassRows for_each_tensor(const PassRows& rows, Function function) {
  const auto of = [&](const Tensor& t) { return t.defined() ? function(t) : t; };
  return {of(rows.input_nd), of(rows.residual_nd), of(rows.before_act_nf),
          of(rows.act_nf),   of(rows.output_nd),   of(rows.normed_nd)};
}

bool are_consecutive(const std::vector<int64_t>& numbers) {
  for (size_t i = 1; i < numbers.size(); ++i)
    if (numbers[i] != numbers[i - 1] + 1) return false;
  return !numbers.empty();
}

}  // namespace

Tensor select_rows(const Tensor& rows, const std::vector<int64_t>& numbers) {
  if (are_consecutive(numbers)) return rows.narrow(0, numbers.front(), static_cast<int64_t>(numbers.size()));
  return rows.index_select(0, uploaded(numbers, rows.device()));
}

PassRows select_rows(const PassRows& rows, const std::vector<int64_t>& numbers) {
  if (are_consecutive(numbers))
    return for_each_tensor(rows, [&](const Tensor& t) { return select_rows(t, numbers); });
  const Tensor index = uploaded(numbers, rows.output_nd.device());
  return for_each_tensor(rows, [&](const Tensor& t) { return t.index_select(0, index); });
}

PassRows copy_row(const PassRows& rows, int64_t number) {
  return for_each_tensor(rows, [&](const Tensor& t) { return t.narrow(0, number, 1).clone(); });
}

PassRows join_rows(const std::vector<PassRows>& parts) {
  const auto joined = [&](Tensor PassRows::*member) {
    if (!(parts.front().*member).defined()) return Tensor();
    std::vector<Tensor> tensors;
    for (const PassRows& part : parts) tensors.push_back(part.*member);
    return at::cat(tensors);
  };
  return {joined(&PassRows::input_nd), joined(&PassRows::residual_nd), joined(&PassRows::before_act_nf),
          joined(&PassRows::act_nf),   joined(&PassRows::output_nd),   joined(&PassRows::normed_nd)};
}

GradientRows gradient_rows(const FastWeightWeights& w, const FastWeightOptions& options, const PassRows& rows,
                           const Tensor& label_n) {
  const Tensor q_nd = output_gradient(w, options, rows, label_n);
  GradientRows g;
  g.dense2_nd = layer_norm_gradient(rows.output_nd, w.norm_scale_d, q_nd, options.norm_epsilon);
  if (has_first(options))
    g.dense1_nf = row_product_transposed(g.dense2_nd, w.dense2_df) * (2 * at::relu(rows.before_act_nf));
  if (options.fast_norm)
    g.norm_n2d = at::cat({q_nd * layer_norm(rows.output_nd, {}, {}, options.norm_epsilon), q_nd}, -1);
  return g;
}

FastWeightState zero_step_state(const FastWeightWeights& w, const FastWeightOptions& options,
                                at::ScalarType type) {
  const int64_t bias = options.fast_biases ? 1 : 0, d = w.dense1_fd.size(1), f = w.dense1_fd.size(0);
  const auto zeros = [&](at::IntArrayRef shape) {
    return at::zeros(shape, at::TensorOptions().dtype(type).device(w.dense1_fd.device()));
  };
  FastWeightState state;
  if (has_first(options)) state.dense1_bfd = zeros({f, d + bias});
  state.dense2_bdf = zeros({d, f + bias});
  if (options.fast_norm) state.norm_bd = zeros({2 * d, 1});
  return state;
}

HostDecays host_decays(const FastWeightWeights& w) {
  std::vector<Tensor> logs;
  for (const Tensor* log_decay : {&w.log_decay1, &w.log_decay2, &w.log_decay_norm})
    logs.push_back(log_decay->detach().to(at::kDouble).reshape({-1}));
  const Tensor host = at::cat(logs).cpu();  // all at once: one wait
  const double* next = host.const_data_ptr<double>();
  const auto decays_of = [&](const Tensor& log_decay) {
    std::vector<double> decays;
    for (int64_t j = 0; j < log_decay.numel(); ++j) decays.push_back(std::exp(*next++));
    return decays;
  };
  HostDecays decays;
  decays.dense1 = decays_of(w.log_decay1);
  decays.dense2 = decays_of(w.log_decay2);
  decays.norm = decays_of(w.log_decay_norm);
  return decays;
}

void learn_rows_(const FastWeightWeights& w, const FastWeightOptions& options, const HostDecays& decays,
                 const PassRows& keys, const GradientRows& gradients, FastWeightState& state) {
  for_each_fast(w, decays, state, [&](Tensor& tensor_vk, const std::vector<HeadDecay>& heads) {
    const bool first = tensor_vk.is_same(state.dense1_bfd), norm = tensor_vk.is_same(state.norm_bd);
    const Tensor& value = first ? gradients.dense1_nf : norm ? gradients.norm_n2d : gradients.dense2_nd;
    const Tensor key = norm ? at::ones({value.size(0), 1}, value.options())
                            : with_bias_input(key_rows(w, options, first ? keys.input_nd : keys.act_nf),
                                              options.fast_biases);
    const auto type = tensor_vk.scalar_type();
    learn_head_rows_(tensor_vk, heads, value.to(type), key.to(type));
  });
}

void pass_over_(const FastWeightWeights& w, const HostDecays& decays, int64_t positions,
                FastWeightState& state) {
  for_each_fast(w, decays, state, [&](Tensor& tensor_vk, const std::vector<HeadDecay>& heads) {
    for (int64_t i = 0; i < positions; ++i)
      for (const HeadDecay& h : heads) tensor_vk.narrow(h.dim, h.first, h.count).mul_(h.decay);
  });
}

FastRows fast_row(const FastWeightWeights& w, const FastWeightOptions& options, const PassRows& row,
                  const FastWeightState& state) {
  FastRows fast;
  fast.before_act_nf = row.before_act_nf;
  fast.act_nf = row.act_nf;
  if (has_first(options)) {
    const Tensor sum_nf = state_product(w, options, row.input_nd, w.query_gain1_d, state.dense1_bfd);
    const Tensor before_nf = with_start(row.before_act_nf, row.input_nd, w.start1_fd);
    fast.before_act_nf = stepped(before_nf, sum_nf, w.step_size1, before_nf);
    fast.act_nf = at::relu(fast.before_act_nf).square();
  }
  fast.sum_nd = state_product(w, options, fast.act_nf, w.query_gain2_f, state.dense2_bdf);
  if (options.fast_norm) fast.norm_sum_n2d = state.norm_bd.t().clone();
  return fast;
}

PassRows fast_rows(const FastWeightWeights& w, const FastWeightOptions& options, const PassRows& slow,
                   const std::vector<FastRows>& fast) {
  const auto joined = [&](Tensor FastRows::*member) {
    std::vector<Tensor> tensors;
    for (const FastRows& f : fast) tensors.push_back(f.*member);
    return at::cat(tensors);
  };
  PassRows rows = slow;
  rows.before_act_nf = joined(&FastRows::before_act_nf);
  rows.act_nf = joined(&FastRows::act_nf);
  const Tensor before_nd =
      with_start(has_first(options) ? second_dense(w, rows.act_nf, slow.residual_nd) : slow.output_nd,
                 rows.act_nf, w.start2_df);
  rows.output_nd = stepped(before_nd, joined(&FastRows::sum_nd), w.step_size2, before_nd);
  rows.normed_nd = options.fast_norm
                       ? fast_output_norm(w, options, rows.output_nd, joined(&FastRows::norm_sum_n2d))
                       : layer_norm(rows.output_nd, w.norm_scale_d, w.norm_bias_d, options.norm_epsilon);
  return rows;
}

}  // namespace fwl
