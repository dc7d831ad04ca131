#include "core/model/flops.h"

#include <algorithm>
#include <cmath>

namespace fwl {
namespace {

struct Widths {
  double d, h, f, v;
};

Widths widths_of(const ModelConfig& c) {
  const auto d = static_cast<double>(c.width);
  const auto f = static_cast<double>(c.fast_weight.width > 0 ? c.fast_weight.width : 4 * c.width);
  return {d, static_cast<double>(std::llround(c.feed_forward_ratio * d)), f,
          static_cast<double>(c.vocab_size)};
}

double body_per_token(const ModelConfig& c) {
  const Widths w = widths_of(c);
  const double feed_forward = (c.feed_forward == "swiglu" ? 6 : 4) * w.d * w.h;
  return static_cast<double>(c.layers) * (8 * w.d * w.d + feed_forward);
}

// Pairs of a query and a key that it may look at, with `before` keys ahead of the first query.
double attention_pairs(const ModelConfig& c, int64_t positions, int64_t before) {
  const auto t = static_cast<double>(positions), b = static_cast<double>(before);
  if (c.window == 0) return t * b + t * (t + 1) / 2;
  // Queries whose reach the window does not cut yet.
  const auto w = static_cast<double>(c.window);
  const double growing = std::clamp(w - b, 0.0, t);
  return growing * std::min(b, w) + growing * (growing + 1) / 2 + (t - growing) * w;
}

double per_pair(const ModelConfig& c) {
  return static_cast<double>(c.layers) * 4 * static_cast<double>(c.width);
}

// One fast tensor: its keys of width k and values of width v, per token.
struct FastTensorFlops {
  double write, read, within, inbound;
  FastTensorFlops(double k, double v, double chunk, bool has_inbound)
      : write(2 * k * v), read(2 * k * v), within(2 * chunk * (k + v)), inbound(has_inbound ? 2 * k * v : 0) {
    within_values = 2 * chunk * v;
  }
  double within_values;
  double forward() const { return write + read + within + inbound; }
  // First order: values are constants. What is left: queries and keys.
  double first_order_backward() const { return 2 * forward() - write - within_values; }
};

struct LayerFlops {
  double forward = 0, backward = 0;
};

LayerFlops layer_per_token(const ModelConfig& c, Pass pass, const SequenceRead& read) {
  const Widths w = widths_of(c);
  const double dense = 2 * w.d * w.f;
  if (pass == Pass::kSlow) return {2 * dense, 4 * dense};
  const FastWeightConfig& f = c.fast_weight;
  const bool both = f.fast_layers == "both";
  const auto chunk = static_cast<double>(std::min(f.chunk, read.positions));
  const double bias = f.fast_biases ? 1 : 0;
  std::vector<FastTensorFlops> tensors = {{w.f + bias, w.d, chunk, read.has_inbound}};
  if (both) tensors.emplace_back(w.d + bias, w.f, chunk, read.has_inbound);
  if (f.fast_norm) tensors.emplace_back(1.0, 2 * w.d, chunk, read.has_inbound);
  LayerFlops sum;
  sum.forward = (both ? 4 : 2) * dense;
  // First order: the first dense and the one that the result came through; with a loss of its own the slow
  // pass keeps its second dense.
  const double slow_loss = both && f.slow_loss_weight > 0 ? 2 * dense : 0;
  sum.backward = f.second_order ? 2 * sum.forward : 4 * dense + slow_loss;
  for (const FastTensorFlops& t : tensors) {
    sum.forward += t.forward();
    sum.backward += f.second_order ? 2 * t.forward() : t.first_order_backward();
  }
  return sum;
}

LayerFlops head_per_token(const ModelConfig& c, Pass pass) {
  const Widths w = widths_of(c);
  const double product = 2 * w.v * w.d;
  if (pass == Pass::kSlow) return {product, 2 * product};
  const FastWeightConfig& f = c.fast_weight;
  const double inner_backward = f.second_order ? 4 : f.slow_loss_weight > 0 ? 2 : 0;
  return {3 * product, (2 + inner_backward) * product};
}

double labelled_of(const SequenceRead& read) {
  return static_cast<double>(read.labelled < 0 ? read.positions : read.labelled);
}

}  // namespace

Flops& Flops::operator+=(const Flops& other) {
  body += other.body;
  attention += other.attention;
  layer += other.layer;
  head += other.head;
  return *this;
}

Flops Flops::operator*(double factor) const {
  return {body * factor, attention * factor, layer * factor, head * factor};
}

Flops forward_flops(const ModelConfig& config, Pass pass, const SequenceRead& read) {
  const double labelled = labelled_of(read);
  return {static_cast<double>(read.positions) * body_per_token(config),
          per_pair(config) * attention_pairs(config, read.positions, read.remembered),
          labelled * layer_per_token(config, pass, read).forward,
          labelled * head_per_token(config, pass).forward};
}

Flops backward_flops(const ModelConfig& config, Pass pass, const SequenceRead& read) {
  const double labelled = labelled_of(read);
  const double all = attention_pairs(config, read.positions, read.remembered);
  const double own = attention_pairs(config, read.positions, 0);
  // Of a remembered key: the gradients of the score and of the query, none of its own.
  const double remembered = std::max(all - own, 0.0);
  return {2 * static_cast<double>(read.positions) * body_per_token(config),
          per_pair(config) * (2 * (all - remembered) + remembered),
          labelled * layer_per_token(config, pass, read).backward,
          labelled * head_per_token(config, pass).backward};
}

Flops training_flops(const ModelConfig& config, int64_t length) {
  const Pass pass = config.fast_weight.update == "none" ? Pass::kSlow : Pass::kFast;
  SequenceRead read;
  read.positions = length;
  Flops flops = forward_flops(config, pass, read);
  flops += backward_flops(config, pass, read);
  return flops;
}

}  // namespace fwl
