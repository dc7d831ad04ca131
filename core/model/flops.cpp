#include "core/model/flops.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/fast_weight/linear_attention.h"
#include "core/fast_weight/weights.h"

namespace fwl {
namespace {

struct Widths {
  double d, h, f, v;
};

Widths widths_of(const ModelConfig& c) {
  const auto d = static_cast<double>(c.width);
  return {d, static_cast<double>(std::llround(c.feed_forward_ratio * d)), static_cast<double>(layer_width(c)),
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
  double forward = 0, backward = 0;
};

double labelled_of(const SequenceRead& read) {
  return static_cast<double>(read.labelled < 0 ? read.positions : read.labelled);
}

FastTensorFlops fast_tensor(const FastWeightConfig& f, int64_t k, int64_t v, const SequenceRead& read) {
  const auto length = static_cast<int64_t>(labelled_of(read));
  const int64_t chunk = f.chunk > 0 ? std::min(f.chunk, length) : fastest_chunk(length, k, v, read.device);
  const bool between_chunks = chunk < length;
  const double state = 2.0 * static_cast<double>(k * v), inbound = read.has_inbound ? state : 0;
  const double within_keys = 2.0 * computed_keys(chunk) * static_cast<double>(k),
               within_values = 2.0 * computed_keys(chunk) * static_cast<double>(v);
  // What the gradient goes through: a state that is left behind has none.
  const double written = between_chunks ? state : 0, read_back = written;
  const double through = written + read_back + inbound + within_keys + within_values;
  FastTensorFlops flops;
  flops.forward = through + (read.carries_state && !between_chunks ? state : 0);
  // First order: values are constants. What is left: queries and keys.
  flops.backward = f.second_order ? 2 * through : 2 * through - written - within_values;
  return flops;
}

struct LayerFlops {
  double forward = 0, backward = 0;
};

LayerFlops layer_per_token(const ModelConfig& c, Pass pass, const SequenceRead& read) {
  const Widths w = widths_of(c);
  const double dense = 2 * w.d * w.f;
  if (pass == Pass::kSlow) return {2 * dense, 4 * dense};
  const FastWeightConfig& f = c.fast_weight;
  const bool both = f.fast_layers == "both";
  const auto d = static_cast<int64_t>(w.d), hidden = static_cast<int64_t>(w.f);
  const int64_t bias = f.fast_biases ? 1 : 0;
  std::vector<FastTensorFlops> tensors;
  for (const int64_t units : head_widths(hidden, f.decay_heads, bias))
    tensors.push_back(fast_tensor(f, units, d, read));
  for (const int64_t units : head_widths(hidden, f.decay_heads))
    if (both) tensors.push_back(fast_tensor(f, d + bias, units, read));
  if (f.fast_norm) tensors.push_back(fast_tensor(f, 1, 2 * d, read));
  const auto steps = static_cast<double>(f.inner_steps);
  LayerFlops sum;
  sum.forward = (both ? 2 + 2 * steps : 2) * dense;
  // First order: the first dense and those that results and keys came through; with a loss of its own the
  // slow pass keeps its second dense.
  const double slow_loss = both && f.slow_loss_weight > 0 ? 2 * dense : 0;
  sum.backward = f.second_order ? 2 * sum.forward : 4 * dense + slow_loss;
  const double start = f.learned_start ? (both ? 1 + steps : steps) * dense : 0;
  sum.forward += start;
  sum.backward += 2 * start;
  for (const FastTensorFlops& t : tensors) {
    sum.forward += steps * t.forward;
    sum.backward += steps * t.backward;
  }
  return sum;
}

LayerFlops head_per_token(const ModelConfig& c, Pass pass, double inner_rows) {
  const Widths w = widths_of(c);
  const double product = 2 * w.v * w.d;
  if (pass == Pass::kSlow) return {product, 2 * product};
  const FastWeightConfig& f = c.fast_weight;
  const auto steps = static_cast<double>(f.inner_steps);
  // Whole: E q, E^T of the logits' cotangent, two outer products. With a Hessian of the likely tokens (whose
  // rows are not counted) one outer product, in first order that of the slow loss.
  const double inner_backward = f.second_order && f.hessian_threshold == 0 ? 4 * steps
                                : f.second_order                           ? steps
                                : f.slow_loss_weight > 0                   ? 1
                                                                           : 0;
  const double inner_gradient = inner_rows < 0 ? product : 2 * inner_rows * w.d;
  return {product + steps * (inner_gradient + product), (2 + inner_backward) * product};
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
          labelled * head_per_token(config, pass, read.inner_rows).forward};
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
          labelled * head_per_token(config, pass, read.inner_rows).backward};
}

Flops training_flops(const ModelConfig& config, int64_t length, at::Device device) {
  const Pass pass = config.fast_weight.learns() ? Pass::kFast : Pass::kSlow;
  SequenceRead read;
  read.positions = length;
  read.device = device;
  Flops flops = forward_flops(config, pass, read);
  flops += backward_flops(config, pass, read);
  return flops;
}

}  // namespace fwl
