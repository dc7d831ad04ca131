#include "core/model/language_model.h"

#include <algorithm>
#include <cmath>

#include <ATen/CPUGeneratorImpl.h>

#include "core/base/error.h"
#include "core/kernels/matmul.h"

namespace fwl {
namespace {

FastWeightOptions options_of(const FastWeightConfig& c) {
  FastWeightOptions o;
  o.fast_layers = c.fast_layers == "second" ? FastLayers::kSecond : FastLayers::kBoth;
  o.key_norm = c.key_norm == "l2"        ? KeyNorm::kKeys
               : c.key_norm == "l2_both" ? KeyNorm::kKeysAndQueries
                                         : KeyNorm::kNone;
  o.chunk = c.chunk;
  o.inner_loss_scale = c.inner_loss_scale;
  o.residual = c.residual;
  o.fast_biases = c.fast_biases;
  o.fast_norm = c.fast_norm;
  o.second_order = c.second_order;
  o.hessian_threshold = c.hessian_threshold;
  return o;
}

// Inverse of decay = largest exp(-softplus(r)): softplus(r) = log largest - log decay.
double raw_decay(double decay, double largest) {
  return std::log(std::expm1(std::log(largest) - std::log(decay)));
}

// Of step sizes and decays; those of the first inner step have no number.
std::string name_of_rate(const std::string& rate, int64_t step) {
  return step == 0 ? "fast_weight." + rate : cat("fast_weight.inner", step + 1, ".", rate);
}

void declare_step_size(const ModelConfig& c, const std::string& name, int64_t rows, Parameters& parameters) {
  const FastWeightConfig& f = c.fast_weight;
  // In log space the start is relative to the width: the scores <z_i, z_t> grow with it.
  const double init = f.step_size_space == "log" ? std::log(f.step_size_init / static_cast<double>(c.width))
                                                 : f.step_size_init;
  const auto shape = f.step_size == "row" ? std::vector<int64_t>{rows} : std::vector<int64_t>{};
  parameters.declare(name, ParameterGroup::kStepSize, at::full(shape, init, at::kDouble));
}

// The fast tensors of the layer, in the order of the decays.
std::vector<std::string> fast_tensors_of(const FastWeightConfig& f) {
  std::vector<std::string> names;
  if (f.fast_layers == "both") names.push_back("dense1");
  names.push_back("dense2");
  if (f.fast_norm) names.push_back("norm");
  return names;
}

// One head: a decay for each fast tensor. Several: one for each head and dense layer, their distances to 1
// spaced geometrically, and one for the norm.
void declare_decays(const ModelConfig& c, int64_t step, int64_t tensors, Parameters& parameters) {
  const FastWeightConfig& f = c.fast_weight;
  const double largest = largest_decay(c);
  const auto declare = [&](const std::string& name, const Tensor& raw) {
    parameters.declare(name_of_rate(name, step), ParameterGroup::kStepSize, raw);
  };
  const auto same = [&](int64_t count) {
    return at::full({count}, raw_decay(f.decay_init, largest), at::kDouble);
  };
  if (f.decay_heads == 1) return declare("decay", same(tensors));
  const int64_t layers = tensors - (f.fast_norm ? 1 : 0);
  Tensor raw_lh = at::empty({layers, f.decay_heads}, at::kDouble);
  for (int64_t j = 0; j < f.decay_heads; ++j) {
    const double share = static_cast<double>(j) / static_cast<double>(f.decay_heads - 1);
    const double lost = std::pow(1 - f.decay_init, 1 - share) * std::pow(1 - f.decay_init_slowest, share);
    raw_lh.select(1, j).fill_(raw_decay(1 - lost, largest));
  }
  declare("decay", raw_lh);
  if (f.fast_norm) declare("decay.norm", same(1));
}

void declare_layer(const ModelConfig& c, at::Generator& generator, Parameters& parameters) {
  const FastWeightConfig& f = c.fast_weight;
  const int64_t d = c.width, hidden = layer_width(c);
  const double out_std =
      f.residual ? 0.02 / std::sqrt(2.0 * static_cast<double>(std::max<int64_t>(c.layers, 1))) : 0.02;
  const auto matrix = [&](const std::string& name, int64_t rows, int64_t columns, double std) {
    parameters.declare(name, ParameterGroup::kDecay,
                       at::empty({rows, columns}, at::kFloat).normal_(0.0, std, generator));
  };
  const auto vector = [&](const std::string& name, const Tensor& initial) {
    parameters.declare(name, ParameterGroup::kNoDecay, initial);
  };
  if (f.has_block()) {
    if (f.input_norm) {
      vector("fast_weight.input_norm.scale", at::ones({d}));
      vector("fast_weight.input_norm.bias", at::zeros({d}));
    }
    matrix("fast_weight.dense1.weight", hidden, d, 0.02);
    vector("fast_weight.dense1.bias", at::zeros({hidden}));
    matrix("fast_weight.dense2.weight", d, hidden, out_std);
    vector("fast_weight.dense2.bias", at::zeros({d}));
  }
  vector("fast_weight.norm.scale", at::ones({d}));
  vector("fast_weight.norm.bias", at::zeros({d}));
  if (!c.tied_embedding) matrix("unembedding.weight", c.vocab_size, d, 0.02);
  if (c.unembedding_bias) vector("unembedding.bias", at::zeros({c.vocab_size}));
  if (!f.learns()) return;
  const std::vector<std::string> fast = fast_tensors_of(f);
  for (int64_t k = 0; k < f.inner_steps; ++k) {
    for (const std::string& name : fast)
      declare_step_size(c, name_of_rate("step_size." + name, k), name == "dense1" ? hidden : d, parameters);
    if (f.decay_init < 1.0) declare_decays(c, k, static_cast<int64_t>(fast.size()), parameters);
  }
  if (f.query_gain) {
    if (f.fast_layers == "both") vector("fast_weight.query_gain1", at::ones({d}));
    vector("fast_weight.query_gain2", at::ones({hidden}));
  }
  if (f.write_gate == "input" || f.write_gate == "both")
    vector("fast_weight.write_gate.input", at::zeros({d}));
  if (f.write_gate == "label" || f.write_gate == "both")
    vector("fast_weight.write_gate.label", at::zeros({c.vocab_size}));
  if (f.learned_start) {
    const auto start = [&](const std::string& name, int64_t rows, int64_t columns) {
      parameters.declare(name, ParameterGroup::kDecay, at::zeros({rows, columns}));
    };
    if (f.fast_layers == "both") start("fast_weight.start1", hidden, d);
    start("fast_weight.start2", d, hidden);
  }
}

// The hidden states whose labels the batch holds.
Tensor labelled(const Tensor& hidden_btd, const Tensor& label_bt) {
  if (!label_bt.defined() || label_bt.size(1) == hidden_btd.size(1)) return hidden_btd;
  return hidden_btd.narrow(1, hidden_btd.size(1) - label_bt.size(1), label_bt.size(1)).contiguous();
}

}  // namespace

LanguageModel::LanguageModel(const ModelConfig& config, at::Device device, at::ScalarType dtype,
                             uint64_t seed)
    : config_(config), device_(device), compute_(dtype), options_(options_of(config.fast_weight)) {
  validate(config_);
  require<InternalError>(config_.vocab_size > 0, "model.vocab_size is not set");
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  declare_body(config_, generator, parameters_);
  declare_layer(config_, generator, parameters_);
  parameters_.build(device, accumulation_type(), compute_);
}

at::ScalarType LanguageModel::accumulation_type() const {
  return accumulate_type(compute_);
}

Tensor LanguageModel::step_size(const std::string& layer, int64_t step) const {
  const std::string name = name_of_rate("step_size." + layer, step);
  if (!parameters_.has(name)) return {};
  return config_.fast_weight.step_size_space == "log" ? parameters_[name].exp() : parameters_[name];
}

Tensor LanguageModel::log_decay(const std::string& layer, int64_t step) const {
  const std::string all = name_of_rate("decay", step), norm = name_of_rate("decay.norm", step);
  const std::vector<std::string> fast = fast_tensors_of(config_.fast_weight);
  const auto found = std::find(fast.begin(), fast.end(), layer);
  if (!parameters_.has(all) || found == fast.end())
    return at::zeros({}, at::TensorOptions().dtype(at::kDouble).device(device_));
  const bool apart = layer == "norm" && parameters_.has(norm);
  const Tensor& raw = parameters_[apart ? norm : all];
  const Tensor log_l = std::log(largest_decay(config_)) - at::softplus(raw.to(at::kDouble));
  return log_l.select(0, apart ? 0 : found - fast.begin());
}

// Calls visit(name, layer, inner step) for every fast tensor: "dense1", "inner2.dense1", ...
template <typename Visit>
void LanguageModel::for_each_rate(Visit visit) const {
  for (int64_t k = 0; k < config_.fast_weight.inner_steps; ++k)
    for (const char* layer : {"dense1", "dense2", "norm"}) {
      if (step_size(layer, k).defined()) visit(k == 0 ? layer : cat("inner", k + 1, ".", layer), layer, k);
    }
}

FastWeightWeights LanguageModel::layer_weights(const WeightView& view) const {
  FastWeightWeights w;
  w.input_norm_scale_d = view.optional("fast_weight.input_norm.scale");
  w.input_norm_bias_d = view.optional("fast_weight.input_norm.bias");
  w.dense1_fd = view.optional("fast_weight.dense1.weight");
  w.dense1_bias_f = view.optional("fast_weight.dense1.bias");
  w.dense2_df = view.optional("fast_weight.dense2.weight");
  w.dense2_bias_d = view.optional("fast_weight.dense2.bias");
  w.norm_scale_d = view("fast_weight.norm.scale");
  w.norm_bias_d = view("fast_weight.norm.bias");
  w.unembedding = {view(config_.tied_embedding ? "embedding" : "unembedding.weight"),
                   view.optional("unembedding.bias"),
                   {},
                   {}};
  w.step_size1 = step_size("dense1");
  w.step_size2 = step_size("dense2");
  w.step_size_norm = step_size("norm");
  w.log_decay1 = log_decay("dense1");
  w.log_decay2 = log_decay("dense2");
  w.log_decay_norm = log_decay("norm");
  for (int64_t k = 1; k < (has_fast_weights() ? config_.fast_weight.inner_steps : 1); ++k) {
    w.more_steps.push_back(
        {step_size("dense1", k), step_size("dense2", k), log_decay("dense1", k), log_decay("dense2", k)});
  }
  w.query_gain1_d = view.optional("fast_weight.query_gain1");
  w.query_gain2_f = view.optional("fast_weight.query_gain2");
  w.start1_fd = view.optional("fast_weight.start1");
  w.start2_df = view.optional("fast_weight.start2");
  w.write_gate_d = view.optional("fast_weight.write_gate.input");
  w.write_gate_v = view.optional("fast_weight.write_gate.label");
  return w;
}

FastWeightResult LanguageModel::fast_forward(const WeightView& weights, const TokenBatch& batch,
                                             SequenceView& view) const {
  require<ConfigError>(
      has_fast_weights(),
      "this model has no fast weights (model.fast_weight.update is none or absent: it is static control). "
      "Ask for the slow pass, or give a model trained with update slow_gradient.");
  require<ConfigError>(
      options_.inner.exact() || !at::GradMode::is_enabled(),
      "a gradient through the Fast Weight Layer with approximate inner gradients (threshold ",
      options_.inner.threshold, ", 8-bit logits: ", options_.inner.float8_logits ? "yes" : "no",
      "; the outer gradient is that of the exact ones). Set InnerApproximation to {}.");
  const Tensor starts_bt = config_.fast_weight.document_reset ? batch.document_start_bt : Tensor();
  FastWeightWeights layer = layer_weights(weights);
  layer.unembedding = approximated(layer.unembedding, options_.inner);
  FastWeightResult result = fast_weight_layer(
      layer, options_,
      labelled(body_forward(config_, weights, batch.input_bt, batch.document_start_bt, view), batch.label_bt),
      {batch.label_bt, batch.weight_bt, starts_bt}, view.inbound_state(), view.exchange(),
      view.carries_state());
  for (Tensor* t : {&result.state.dense1_bfd, &result.state.dense2_bdf, &result.state.norm_bd})
    if (t->defined()) *t = t->detach();
  if (result.inner_use.defined())
    inner_use_ = inner_use_.defined() ? inner_use_ + result.inner_use : result.inner_use;
  view.advance(batch.input_bt.size(1), result.state);
  return result;
}

Tensor LanguageModel::slow_forward(const WeightView& weights, const TokenBatch& batch,
                                   SequenceView& view) const {
  const Tensor normed_btd =
      slow_pass(layer_weights(weights), options_,
                labelled(body_forward(config_, weights, batch.input_bt, batch.document_start_bt, view),
                         batch.label_bt));
  view.advance(batch.input_bt.size(1), {});
  return normed_btd;
}

Tensor LanguageModel::normed_of(const WeightView& weights, const TokenBatch& batch, Pass pass,
                                SequenceView& view) const {
  return pass == Pass::kFast ? fast_forward(weights, batch, view).fast_normed_btd
                             : slow_forward(weights, batch, view);
}

TrainingLoss LanguageModel::training_loss(const TokenBatch& batch, double scale, SequenceView& view) const {
  const WeightView weights(parameters_, compute_);
  const Unembedding unembedding = layer_weights(weights).unembedding;
  const Tensor weight_n = batch.weight_bt.flatten() * scale;
  const auto weighted_sum = [&](const Tensor& nll_n) {
    return at::dot(nll_n.detach().flatten(), batch.weight_bt.flatten());
  };
  const auto loss_of = [&](const Tensor& normed_btd) {
    return outer_loss(normed_btd.flatten(0, 1), unembedding, batch.label_bt.flatten(), weight_n);
  };
  if (!has_fast_weights()) {
    const OuterLoss loss = loss_of(slow_forward(weights, batch, view));
    return {loss.total, weighted_sum(loss.nll_n), weighted_sum(loss.nll_n)};
  }
  const FastWeightResult layer = fast_forward(weights, batch, view);
  const OuterLoss loss = loss_of(layer.fast_normed_btd);
  const double alpha = config_.fast_weight.slow_loss_weight;
  const Tensor objective =
      alpha > 0 ? loss.total + at::dot(layer.slow_nll_bt.flatten(), weight_n) * alpha : loss.total;
  return {objective, weighted_sum(loss.nll_n), weighted_sum(layer.slow_nll_bt)};
}

TrainingLoss LanguageModel::training_loss(const TokenBatch& batch, double scale) const {
  WholeSequence whole;
  return training_loss(batch, scale, whole);
}

Tensor LanguageModel::token_losses(const TokenBatch& batch, Pass pass, SequenceView& view) const {
  const at::NoGradGuard no_grad;
  const WeightView weights(parameters_, compute_);
  return outer_loss(normed_of(weights, batch, pass, view).flatten(0, 1), layer_weights(weights).unembedding,
                    batch.label_bt.flatten(), batch.weight_bt.flatten())
      .nll_n.view(batch.label_bt.sizes());
}

Tensor LanguageModel::token_losses(const TokenBatch& batch, Pass pass) const {
  WholeSequence whole;
  return token_losses(batch, pass, whole);
}

LanguageModel::PassLosses LanguageModel::pass_losses(const TokenBatch& batch, SequenceView& view) const {
  if (!has_fast_weights()) return {token_losses(batch, Pass::kSlow, view), {}};
  const at::NoGradGuard no_grad;
  const WeightView weights(parameters_, compute_);
  const FastWeightResult layer = fast_forward(weights, batch, view);
  const OuterLoss fast = outer_loss(layer.fast_normed_btd.flatten(0, 1), layer_weights(weights).unembedding,
                                    batch.label_bt.flatten(), batch.weight_bt.flatten());
  return {layer.slow_nll_bt, fast.nll_n.view(batch.label_bt.sizes())};
}

OuterLoss LanguageModel::segment_loss(const TokenBatch& batch, SequenceView& view, Pass pass) const {
  const WeightView weights(parameters_, compute_);
  return outer_loss(normed_of(weights, batch, pass, view).flatten(0, 1), layer_weights(weights).unembedding,
                    batch.label_bt.flatten(), batch.weight_bt.flatten());
}

Tensor LanguageModel::next_logits(const Tensor& input_bt, SequenceView& view) const {
  return logits({input_bt, {}, {}, {}}, Pass::kSlow, view);
}

Tensor LanguageModel::logits(const TokenBatch& batch, Pass pass, SequenceView& view) const {
  const at::NoGradGuard no_grad;
  const WeightView weights(parameters_, compute_);
  const Tensor logits_nv =
      logits_of(normed_of(weights, batch, pass, view).flatten(0, 1), layer_weights(weights).unembedding);
  return logits_nv.view({batch.input_bt.size(0), batch.input_bt.size(1), -1}).to(accumulation_type());
}

Tensor LanguageModel::logits(const TokenBatch& batch, Pass pass) const {
  WholeSequence whole;
  return logits(batch, pass, whole);
}

LanguageModel::InnerUse LanguageModel::take_inner_use() {
  if (!inner_use_.defined()) return {};
  const Tensor host = inner_use_.to(at::kCPU);
  inner_use_.reset();
  return {host[0].item<double>(), host[1].item<double>(), host[2].item<double>()};
}

std::vector<std::pair<std::string, double>> LanguageModel::mean_step_sizes() const {
  const at::NoGradGuard no_grad;
  std::vector<std::pair<std::string, double>> means;
  for_each_rate([&](const std::string& name, const std::string& layer, int64_t k) {
    means.emplace_back(name, step_size(layer, k).mean().item<double>());
  });
  return means;
}

std::vector<std::pair<std::string, double>> LanguageModel::decays() const {
  const at::NoGradGuard no_grad;
  std::vector<std::pair<std::string, double>> found;
  for_each_rate([&](const std::string& name, const std::string& layer, int64_t k) {
    const Tensor decay = log_decay(layer, k).exp().to(at::kCPU);
    if (decay.dim() == 0) found.emplace_back(name, decay.item<double>());
    for (int64_t j = 0; decay.dim() == 1 && j < decay.size(0); ++j)
      found.emplace_back(cat(name, ".", j), decay[j].item<double>());
  });
  return found;
}

}  // namespace fwl
