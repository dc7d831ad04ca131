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

// Numbers, end to end, by their names.
std::vector<std::pair<std::string, double>> on_host(const std::vector<std::string>& names,
                                                    const std::vector<Tensor>& numbers) {
  if (names.empty()) return {};
  std::vector<Tensor> flat;
  for (const Tensor& t : numbers) flat.push_back(t.reshape({-1}).to(at::kDouble));
  const Tensor host = at::cat(flat).cpu();
  std::vector<std::pair<std::string, double>> named;
  for (size_t i = 0; i < names.size(); ++i) named.emplace_back(names[i], host.const_data_ptr<double>()[i]);
  return named;
}

constexpr const char* kFastNames[] = {"dense1", "dense2", "norm"};

// The positions, [B, T, ...], whose labels the batch holds: the last ones.
Tensor labelled(const Tensor& x, const Tensor& label_bt) {
  if (!x.defined() || !label_bt.defined() || label_bt.size(1) == x.size(1)) return x;
  return x.narrow(1, x.size(1) - label_bt.size(1), label_bt.size(1)).contiguous();
}

void check(const TokenBatch& batch) {
  const auto fits = [&](const Tensor& t, const Tensor& like) {
    return !t.defined() || t.sizes() == like.sizes();
  };
  const Tensor &input = batch.input_bt, &label = batch.label_bt;
  require<InternalError>(input.dim() == 2 && input.numel() > 0, "a batch of ", input.sizes(), " tokens");
  require<InternalError>(
      (!label.defined() || (label.dim() == 2 && label.size(0) == input.size(0) && label.size(1) > 0 &&
                            label.size(1) <= input.size(1) && fits(batch.weight_bt, label))) &&
          fits(batch.document_start_bt, input),
      "a batch of inputs ", input.sizes(), " has labels, weights or document starts of other sizes");
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
  body_ = index_body(config_, parameters_);
  index_layer();
}

at::ScalarType LanguageModel::accumulation_type() const {
  return accumulate_type(compute_);
}

void LanguageModel::index_layer() {
  using W = FastWeightWeights;
  for (const auto& [member, name] : std::initializer_list<std::pair<Tensor W::*, const char*>>{
           {&W::input_norm_scale_d, "input_norm.scale"},
           {&W::input_norm_bias_d, "input_norm.bias"},
           {&W::dense1_fd, "dense1.weight"},
           {&W::dense1_bias_f, "dense1.bias"},
           {&W::dense2_df, "dense2.weight"},
           {&W::dense2_bias_d, "dense2.bias"},
           {&W::norm_scale_d, "norm.scale"},
           {&W::norm_bias_d, "norm.bias"},
           {&W::query_gain1_d, "query_gain1"},
           {&W::query_gain2_f, "query_gain2"},
           {&W::start1_fd, "start1"},
           {&W::start2_df, "start2"},
           {&W::write_gate_d, "write_gate.input"},
           {&W::write_gate_v, "write_gate.label"}})
    layer_.emplace_back(member, parameters_.index_of(cat("fast_weight.", name)));
  unembedding_ = parameters_.index_of(config_.tied_embedding ? "embedding" : "unembedding.weight");
  unembedding_bias_ = parameters_.index_of("unembedding.bias");
  const int64_t steps = has_fast_weights() ? config_.fast_weight.inner_steps : 1;
  for (int64_t k = 0; k < steps; ++k) {
    const auto rate = [&](const std::string& name) { return parameters_.index_of(name_of_rate(name, k)); };
    rates_.push_back({{rate("step_size.dense1"), rate("step_size.dense2"), rate("step_size.norm")},
                      rate("decay"),
                      rate("decay.norm")});
  }
}

Tensor LanguageModel::step_size(size_t tensor, size_t step) const {
  const ParameterIndex index = rates_[step].step_size[tensor];
  if (index == kNoParameter) return {};
  const Tensor& value = parameters_.value(index);
  return config_.fast_weight.step_size_space == "log" ? value.exp() : value;
}

Tensor LanguageModel::step_size(const std::string& layer, int64_t step) const {
  for (size_t i = 0; i < kFastTensors; ++i)
    if (layer == kFastNames[i] && step < static_cast<int64_t>(rates_.size()))
      return step_size(i, static_cast<size_t>(step));
  return {};
}

LanguageModel::OfFastTensors LanguageModel::log_decays(size_t step) const {
  OfFastTensors logs;
  logs.fill(at::zeros({}, at::TensorOptions().dtype(at::kDouble).device(device_)));
  const RateIndex& rates = rates_[step];
  if (rates.decay == kNoParameter) return logs;
  const auto log_of = [&](ParameterIndex index) {
    return std::log(largest_decay(config_)) - at::softplus(parameters_.value(index).to(at::kDouble));
  };
  const Tensor together = log_of(rates.decay);
  int64_t next = 0;  // in the order of fast_tensors_of()
  for (size_t i = 0; i < kFastTensors; ++i) {
    if (rates.step_size[i] == kNoParameter) continue;
    const bool apart = i + 1 == kFastTensors && rates.norm_decay != kNoParameter;
    logs[i] = apart ? log_of(rates.norm_decay).select(0, 0) : together.select(0, next++);
  }
  return logs;
}

// Calls visit(name, fast tensor, inner step) for every fast tensor: "dense1", "inner2.dense1", ...
template <typename Visit>
void LanguageModel::for_each_rate(Visit visit) const {
  for (size_t k = 0; k < rates_.size(); ++k)
    for (size_t i = 0; i < kFastTensors; ++i) {
      if (rates_[k].step_size[i] == kNoParameter) continue;
      visit(k == 0 ? kFastNames[i] : cat("inner", k + 1, ".", kFastNames[i]), i, k);
    }
}

FastWeightWeights LanguageModel::layer_weights(const WeightView& view) const {
  FastWeightWeights w;
  for (const auto& [member, index] : layer_) w.*member = view(index);
  w.unembedding = {view(unembedding_), view(unembedding_bias_), {}, {}};
  const OfFastTensors log_decay = log_decays(0);
  w.step_size1 = step_size(0, 0);
  w.step_size2 = step_size(1, 0);
  w.step_size_norm = step_size(2, 0);
  w.log_decay1 = log_decay[0];
  w.log_decay2 = log_decay[1];
  w.log_decay_norm = log_decay[2];
  for (size_t k = 1; k < rates_.size(); ++k) {
    const OfFastTensors own = log_decays(k);
    w.more_steps.push_back({step_size(0, k), step_size(1, k), own[0], own[1]});
  }
  return w;
}

LanguageModel::ForwardWeights LanguageModel::forward_weights() const {
  ForwardWeights weights{WeightView(parameters_, compute_), {}};
  weights.layer = layer_weights(weights.view);
  return weights;
}

// Means over the vocabulary and 8-bit rows are made again only where the weights may have changed.
Unembedding LanguageModel::inner_unembedding(const Unembedding& exact) const {
  if (options_.inner.exact()) return exact;
  const std::optional<Parameters::Revision> now = parameters_.revision();
  if (!now) return approximated(exact, options_.inner);
  if (!approximated_ || !(approximated_->of == *now))
    approximated_ = Approximated{*now, approximated(exact, options_.inner)};
  return approximated_->unembedding;
}

Tensor LanguageModel::body_of(const ForwardWeights& weights, const TokenBatch& batch,
                              SequenceView& view) const {
  check(batch);
  return labelled(body_forward(config_, body_, weights.view, batch.input_bt, batch.document_start_bt, view),
                  batch.label_bt);
}

FastWeightResult LanguageModel::fast_forward(const ForwardWeights& weights, const TokenBatch& batch,
                                             SequenceView& view) const {
  check(batch);
  require<ConfigError>(
      has_fast_weights(),
      "this model has no fast weights (model.fast_weight.update is none or absent: it is static control). "
      "Ask for the slow pass, or give a model trained with update slow_gradient.");
  require<ConfigError>(
      options_.inner.exact() || !at::GradMode::is_enabled(),
      "a gradient through the Fast Weight Layer with approximate inner gradients (threshold ",
      options_.inner.threshold, ", 8-bit logits: ", options_.inner.float8_logits ? "yes" : "no",
      "; the outer gradient is that of the exact ones). Set InnerApproximation to {}.");
  const Tensor starts_bt =
      config_.fast_weight.document_reset ? labelled(batch.document_start_bt, batch.label_bt) : Tensor();
  FastWeightWeights layer = weights.layer;
  layer.unembedding = inner_unembedding(layer.unembedding);
  FastWeightResult result = fast_weight_layer(layer, options_, body_of(weights, batch, view),
                                              {batch.label_bt, batch.weight_bt, starts_bt},
                                              view.inbound_state(), view.exchange(), view.carries_state());
  for (Tensor* t : {&result.state.dense1_bfd, &result.state.dense2_bdf, &result.state.norm_bd})
    if (t->defined()) *t = t->detach();
  if (result.inner_use.defined())
    inner_use_ = inner_use_.defined() ? inner_use_ + result.inner_use : result.inner_use;
  view.advance(batch.input_bt.size(1), result.state);
  return result;
}

Tensor LanguageModel::slow_forward(const ForwardWeights& weights, const TokenBatch& batch,
                                   SequenceView& view) const {
  const Tensor normed_btd = slow_pass(weights.layer, options_, body_of(weights, batch, view));
  view.advance(batch.input_bt.size(1), {});
  return normed_btd;
}

Tensor LanguageModel::normed_of(const ForwardWeights& weights, const TokenBatch& batch, Pass pass,
                                SequenceView& view) const {
  return pass == Pass::kFast ? fast_forward(weights, batch, view).fast_normed_btd
                             : slow_forward(weights, batch, view);
}

TrainingLoss LanguageModel::training_loss(const TokenBatch& batch, double scale, SequenceView& view) const {
  const ForwardWeights weights = forward_weights();
  const Unembedding& unembedding = weights.layer.unembedding;
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
  const ForwardWeights weights = forward_weights();
  return outer_loss(normed_of(weights, batch, pass, view).flatten(0, 1), weights.layer.unembedding,
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
  const ForwardWeights weights = forward_weights();
  const FastWeightResult layer = fast_forward(weights, batch, view);
  const OuterLoss fast = outer_loss(layer.fast_normed_btd.flatten(0, 1), weights.layer.unembedding,
                                    batch.label_bt.flatten(), batch.weight_bt.flatten());
  return {layer.slow_nll_bt, fast.nll_n.view(batch.label_bt.sizes())};
}

OuterLoss LanguageModel::segment_loss(const TokenBatch& batch, SequenceView& view, Pass pass) const {
  const ForwardWeights weights = forward_weights();
  return outer_loss(normed_of(weights, batch, pass, view).flatten(0, 1), weights.layer.unembedding,
                    batch.label_bt.flatten(), batch.weight_bt.flatten());
}

Tensor LanguageModel::logits(const TokenBatch& batch, Pass pass, SequenceView& view) const {
  const at::NoGradGuard no_grad;
  const ForwardWeights weights = forward_weights();
  const Tensor normed_btd = normed_of(weights, batch, pass, view);
  const Tensor logits_nv = logits_of(normed_btd.flatten(0, 1), weights.layer.unembedding);
  return logits_nv.view({normed_btd.size(0), normed_btd.size(1), -1}).to(accumulation_type());
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

// One wait for the device, however many there are.
std::vector<std::pair<std::string, double>> LanguageModel::mean_step_sizes() const {
  const at::NoGradGuard no_grad;
  std::vector<std::string> names;
  std::vector<Tensor> means;
  for_each_rate([&](const std::string& name, size_t tensor, size_t k) {
    names.push_back(name);
    means.push_back(step_size(tensor, k).mean());
  });
  return on_host(names, means);
}

std::vector<std::pair<std::string, double>> LanguageModel::decays() const {
  const at::NoGradGuard no_grad;
  std::vector<std::string> names;
  std::vector<Tensor> decays;
  std::vector<OfFastTensors> logs;
  for (size_t k = 0; k < rates_.size(); ++k) logs.push_back(log_decays(k));
  for_each_rate([&](const std::string& name, size_t tensor, size_t k) {
    const Tensor decay = logs[k][tensor].exp();
    decays.push_back(decay);
    if (decay.dim() == 0) names.push_back(name);
    for (int64_t j = 0; decay.dim() == 1 && j < decay.size(0); ++j) names.push_back(cat(name, ".", j));
  });
  return on_host(names, decays);
}

}  // namespace fwl
