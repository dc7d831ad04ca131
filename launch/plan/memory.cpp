#include "launch/plan/memory.h"

#include <algorithm>
#include <cmath>

#include "core/base/device.h"
#include "core/fast_weight/linear_attention.h"
#include "core/fast_weight/loss_head.h"
#include "core/kernels/likely_tokens.h"

namespace fwl {
namespace {

// Tensors of [B, T, d] and [B, T, f] that the Fast Weight Layer keeps beyond the slow block's: fitted to the
// measured peaks (launch/plan/measurements.json).
constexpr double kLayerWidths = 5;
// Of a transformer block, beside the feed-forward's hidden: both norms' inputs and outputs, q, k, v,
// attention's result, statistics.
constexpr double kBlockWidths = 8.2;
constexpr double kNcclGroupBytes = 0.4e9;  // ASSUMED: NCCL's channels of one group

double real(int64_t value) {
  return static_cast<double>(value);
}

int64_t feed_forward_width(const ModelConfig& c) {
  return std::llround(c.feed_forward_ratio * real(c.width));
}

int64_t block_parameters(const ModelConfig& c) {
  const int64_t d = c.width, hidden = feed_forward_width(c),
                up = (c.feed_forward == "swiglu" ? 2 : 1) * hidden;
  const int64_t norms = 2 * (c.norm == "layer" ? 2 : 1) * d;
  const int64_t biases = c.projection_biases ? 3 * d + d + up + d : 0;
  return norms + 4 * d * d + up * d + hidden * d + biases;
}

int64_t fast_parameters(const ModelConfig& c) {
  const FastWeightConfig& f = c.fast_weight;
  if (!f.learns()) return 0;
  const int64_t d = c.width, hidden = layer_width(c);
  const bool both = f.fast_layers == "both", row = f.step_size == "row";
  const int64_t tensors = 1 + (both ? 1 : 0) + (f.fast_norm ? 1 : 0);
  const int64_t step_sizes = row ? d + (both ? hidden : 0) + (f.fast_norm ? d : 0) : tensors;
  const int64_t norm = f.decay_heads > 1 && f.fast_norm ? 1 : 0;  // has one decay
  const int64_t decays = f.decay_init < 1.0 ? (tensors - norm) * f.decay_heads + norm : 0;
  const int64_t starts = f.learned_start ? (both ? 2 : 1) * d * hidden : 0;
  const int64_t gate = (f.write_gate == "input" || f.write_gate == "both" ? d : 0) +
                       (f.write_gate == "label" || f.write_gate == "both" ? c.vocab_size : 0);
  return f.inner_steps * (step_sizes + decays) + starts + gate + (f.query_gain ? (both ? d : 0) + hidden : 0);
}

double element_bytes(const RunConfig& c) {
  return real(static_cast<int64_t>(c10::elementSize(parse_dtype(c.train.dtype))));
}

double accumulation_bytes(const RunConfig& c) {
  return c.train.dtype == "fp64" ? 8 : 4;
}

double activation_bytes(const RunConfig& c, double tokens) {
  const ModelConfig& m = c.model;
  const double d = real(m.width), f = real(layer_width(m));
  const double up = (m.feed_forward == "swiglu" ? 3 : 1) * real(feed_forward_width(m));
  double widths = real(m.layers) * (kBlockWidths * d + up);
  if (m.fast_weight.has_block()) widths += kBlockWidths * d + f;
  // With the first layer slow, what is as wide as the hidden units is there from the slow pass.
  const double fast = d + (m.fast_weight.fast_layers == "both" ? f : 0);
  if (m.fast_weight.learns()) widths += real(m.fast_weight.inner_steps) * kLayerWidths * fast;
  return tokens * widths * element_bytes(c);
}

// Lists of likely tokens: tokens and probabilities of every inner step, what the backward makes of one's.
double list_bytes(const FastWeightConfig& f, double tokens, int64_t vocabulary) {
  if (!f.second_order || f.hessian_threshold <= 0 || f.hessian_threshold >= 1) return 0;
  return tokens * real(likely_places(vocabulary, f.hessian_threshold)) * 4 * (2 * real(f.inner_steps) + 1);
}

double head_bytes(const RunConfig& c, int64_t tokens) {
  const ModelConfig& m = c.model;
  const double v = real(m.vocab_size), s = element_bytes(c);
  const double most = real(head_block_tokens(m.vocab_size, at::kCUDA, HeadPass::kWithGradient));
  const double block = std::min(real(tokens), most) * v * s;
  const double gradient = v * real(m.width) * (accumulation_bytes(c) + s);
  if (!m.fast_weight.learns()) return block + gradient;
  const int64_t steps = m.fast_weight.inner_steps;
  const bool keeps = keeps_residuals(tokens, m.vocab_size, parse_dtype(c.train.dtype), at::kCUDA, steps);
  return gradient + block + (keeps ? real(steps * tokens) * v * s : block) +
         list_bytes(m.fast_weight, real(tokens), m.vocab_size);
}

double chunk_state_bytes(const RunConfig& c, int64_t length, int64_t rows) {
  const FastWeightConfig& f = c.model.fast_weight;
  if (!f.learns()) return 0;
  const int64_t d = c.model.width, hidden = layer_width(c.model);
  const int64_t chunk = f.chunk > 0 ? std::min(f.chunk, length) : fastest_chunk(length, hidden, d, at::kCUDA);
  if (chunk >= length) return 0;
  const double chunks = std::ceil(real(length) / real(chunk)),
               tensors = real(f.inner_steps) * (f.fast_layers == "both" ? 2 : 1);
  // Kept of every tensor; one is being made in the accumulation type.
  return real(rows) * chunks * real(d * hidden) * (tensors * element_bytes(c) + accumulation_bytes(c));
}

double communication_bytes(const RunConfig& c, const MeshShape& shape, double tokens, int64_t rows) {
  double bytes = shape.ranks() > 1 ? kNcclGroupBytes + real(c.parallel.bucket_bytes()) : 0;
  if (shape.sequence == 1) return bytes;
  const double d = real(c.model.width), steps = real(c.model.fast_weight.inner_steps),
               layers = c.model.fast_weight.fast_layers == "both" ? 2 : 1,
               states = steps * real(rows) * layers * d * real(layer_width(c.model));
  const bool gathers = c.model.window == 0 && c.model.heads % shape.sequence != 0;
  const double keys = tokens * 2 * d * element_bytes(c) * (gathers ? shape.sequence : 2);
  const double exchanged = c.model.fast_weight.learns() ? 3 * states * accumulation_bytes(c) : 0;
  return bytes + kNcclGroupBytes + keys + exchanged;
}

}  // namespace

int64_t count_parameters(const ModelConfig& c) {
  const int64_t d = c.width, hidden = layer_width(c);
  const int64_t positions = c.positions == "rotary" ? 0 : c.max_positions > 0 ? c.max_positions : c.context;
  const int64_t input_norm = c.fast_weight.input_norm ? 2 * d : 0, output_norm = 2 * d;
  const int64_t block = 2 * hidden * d + hidden + d + input_norm;
  const int64_t layer = (c.fast_weight.has_block() ? block : 0) + output_norm;
  const int64_t unembedding =
      (c.tied_embedding ? 0 : c.vocab_size * d) + (c.unembedding_bias ? c.vocab_size : 0);
  return (c.vocab_size + positions) * d + c.layers * block_parameters(c) + layer + unembedding +
         fast_parameters(c);
}

MemoryPlan plan_memory(const RunConfig& c, const MeshShape& shape, int64_t micro_rows) {
  const double parameters = real(count_parameters(c.model));
  const double a = accumulation_bytes(c), s = element_bytes(c);
  const int64_t length = c.model.context / shape.sequence;
  const double tokens = real(micro_rows * length);
  MemoryPlan m;
  // With copies in a narrower type a sharded optimizer spreads the values as well.
  const double shards = c.parallel.shard_optimizer ? shape.ranks() : 1;
  m.weights = s < a ? parameters * (a / shards + s) : parameters * a;
  m.gradients = parameters * a;
  m.moments = 2 * parameters * a / shards;
  m.activations = activation_bytes(c, tokens);
  m.head = head_bytes(c, micro_rows * length);
  m.chunk_states = chunk_state_bytes(c, length, micro_rows);
  m.communication = communication_bytes(c, shape, tokens, micro_rows);
  return m;
}

}  // namespace fwl
