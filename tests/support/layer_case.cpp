#include "tests/support/layer_case.h"

#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <cmath>

namespace fwl {
namespace {

const auto kWide = at::TensorOptions().dtype(at::kDouble);

class Draw {
 public:
  explicit Draw(uint64_t seed) : generator_(at::make_generator<at::CPUGeneratorImpl>(seed)) {}
  Tensor normal(at::IntArrayRef shape, double std, double mean = 0) {
    return at::empty(shape, kWide).normal_(mean, std, generator_);
  }
  Tensor integers(int64_t high, at::IntArrayRef shape) {
    return at::randint(high, shape, generator_, at::TensorOptions().dtype(at::kLong));
  }
  Tensor uniform(at::IntArrayRef shape) { return at::rand(shape, generator_, kWide); }

 private:
  at::Generator generator_;
};

}  // namespace

LayerSetup make_layer(const LayerCase& c) {
  Draw draw(c.seed);
  LayerSetup s;
  const auto leaf = [&](const std::string& name, const Tensor& value) {
    Tensor t = value.clone().requires_grad_(true);
    s.leaves.emplace_back(name, t);
    return t;
  };
  const int64_t d = c.width, f = c.hidden, v = c.vocabulary;
  FastWeightWeights& w = s.weights;
  if (c.input_norm) {
    w.input_norm_scale_d = leaf("input_norm.scale", draw.normal({d}, 0.1, 1));
    w.input_norm_bias_d = leaf("input_norm.bias", draw.normal({d}, 0.1));
  }
  w.dense1_fd = leaf("dense1", draw.normal({f, d}, 1 / std::sqrt(d)));
  w.dense1_bias_f = leaf("dense1.bias", draw.normal({f}, 0.1));
  w.dense2_df = leaf("dense2", draw.normal({d, f}, 1 / std::sqrt(f)));
  w.dense2_bias_d = leaf("dense2.bias", draw.normal({d}, 0.1));
  w.norm_scale_d = leaf("norm.scale", draw.normal({d}, 0.1, 1));
  w.norm_bias_d = leaf("norm.bias", draw.normal({d}, 0.1));
  w.unembedding.weight_vd = leaf("unembedding", draw.normal({v, d}, 1 / std::sqrt(d)));
  if (c.unembedding_bias) w.unembedding.bias_v = leaf("unembedding.bias", draw.normal({v}, 0.1));
  const auto step = [&](const std::string& name, int64_t rows) {
    const double log_start = std::log(0.3 / static_cast<double>(d));
    return leaf(name, c.row_step_sizes ? draw.normal({rows}, 0.3, log_start) : at::full({}, log_start, kWide))
        .exp();
  };
  if (c.options.fast_layers == FastLayers::kBoth) w.step_size1 = step("log_step1", f);
  w.step_size2 = step("log_step2", d);
  if (c.options.fast_norm) w.step_size_norm = step("log_step_norm", d);
  const auto decay = [&](const std::string& name, double rho) {
    if (c.decay_heads > 0 && name != "log_decay_norm")
      return leaf(name, std::log(rho) * at::arange(c.decay_heads, kWide).add(1).reciprocal());
    return c.decay ? leaf(name, at::full({}, std::log(rho), kWide)) : at::zeros({}, kWide);
  };
  if (c.options.fast_layers == FastLayers::kBoth) w.log_decay1 = decay("log_decay1", 0.97);
  w.log_decay2 = decay("log_decay2", 0.93);
  if (c.options.fast_norm) w.log_decay_norm = decay("log_decay_norm", 0.95);
  for (int64_t k = 2; k <= c.inner_steps; ++k) {
    const auto numbered = [&](const char* name) { return name + std::to_string(10 * k); };
    StepRates rates;
    if (c.options.fast_layers == FastLayers::kBoth) {
      rates.step_size1 = step(numbered("log_step1."), f);
      rates.log_decay1 = decay(numbered("log_decay1."), 0.9);
    }
    rates.step_size2 = step(numbered("log_step2."), d);
    rates.log_decay2 = decay(numbered("log_decay2."), 0.98);
    w.more_steps.push_back(rates);
  }
  if (c.query_gain) {
    if (c.options.fast_layers == FastLayers::kBoth)
      w.query_gain1_d = leaf("query_gain1", draw.normal({d}, 0.1, 1));
    w.query_gain2_f = leaf("query_gain2", draw.normal({f}, 0.1, 1));
  }
  if (c.learned_start) {
    if (c.options.fast_layers == FastLayers::kBoth) w.start1_fd = leaf("start1", draw.normal({f, d}, 0.2));
    w.start2_df = leaf("start2", draw.normal({d, f}, 0.2));
  }
  if (c.write_gate) {
    w.write_gate_d = leaf("write_gate.input", draw.normal({d}, 0.5));
    w.write_gate_v = leaf("write_gate.label", draw.normal({v}, 1));
  }
  s.hidden_btd = leaf("hidden", draw.normal({c.batch, c.length, d}, 1));
  s.tokens.label_bt = draw.integers(v, {c.batch, c.length});
  s.tokens.weight_bt = c.zero_weights ? (draw.uniform({c.batch, c.length}) < 0.8).to(at::kDouble)
                                      : at::ones({c.batch, c.length}, kWide);
  if (!c.documents.empty()) {
    s.tokens.document_start_bt = at::zeros({c.batch, c.length}, at::TensorOptions().dtype(at::kBool));
    for (const int64_t t : c.documents) s.tokens.document_start_bt[0][t].fill_(true);
  }
  return s;
}

NamedTensors outputs_and_gradients(LayerSetup& setup, const FastWeightResult& result) {
  for (auto& [name, leaf] : setup.leaves) leaf.mutable_grad() = Tensor();
  const Tensor weight_n = (setup.tokens.weight_bt / setup.tokens.weight_bt.sum()).flatten();
  const OuterLoss loss = outer_loss(result.fast_normed_btd.flatten(0, 1), setup.weights.unembedding,
                                    setup.tokens.label_bt.flatten(), weight_n);
  // A share of the slow loss, so that the inner loss's own cotangent is exercised too.
  (loss.total + 0.3 * at::dot(result.slow_nll_bt.flatten(), weight_n)).backward();
  NamedTensors all = {{"loss", loss.total.detach()},
                      {"token losses", loss.nll_n},
                      {"slow output", result.slow_normed_btd.detach()},
                      {"fast output", result.fast_normed_btd.detach()},
                      {"slow losses", result.slow_nll_bt.detach()}};
  for (auto& [name, leaf] : setup.leaves)
    all.emplace_back("d " + name, leaf.grad().defined() ? leaf.grad().clone() : at::zeros_like(leaf));
  return all;
}

double largest_difference(const NamedTensors& a, const NamedTensors& b, std::string* worst) {
  double largest = a.size() == b.size() ? 0 : INFINITY;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    const double scale =
        std::max({a[i].second.abs().max().item<double>(), b[i].second.abs().max().item<double>(), 1e-300});
    const double difference = (a[i].second - b[i].second).abs().max().item<double>() / scale;
    if (!(difference <= largest)) {
      largest = difference;
      *worst = a[i].first;
    }
  }
  return largest;
}

}  // namespace fwl
