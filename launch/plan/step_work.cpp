#include "launch/plan/step_work.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/fast_weight/linear_attention.h"
#include "core/model/flops.h"
#include "launch/plan/memory.h"

namespace fwl {
namespace {

// Keys that a query looks at on average at which attention runs at half of its best rate.
constexpr double kHalfRateReach = 512;

double real(int64_t value) {
  return static_cast<double>(value);
}

bool is_fast(const ModelConfig& m) {
  return m.fast_weight.learns();
}

// Forward and backward of one sequence's part on one rank. Attention: the whole sequence's, shared evenly.
Flops flops_of_part(const ModelConfig& m, int ranks) {
  const Pass pass = is_fast(m) ? Pass::kFast : Pass::kSlow;
  SequenceRead read;
  read.positions = m.context / ranks;
  read.device = at::kCUDA;
  read.has_inbound = read.carries_state = ranks > 1 && is_fast(m);
  Flops part = forward_flops(m, pass, read);
  part += backward_flops(m, pass, read);
  part.attention = training_flops(m, m.context, at::kCUDA).attention / ranks;
  return part;
}

double mean_reach(const ModelConfig& m) {
  const double t = real(m.context), w = m.window == 0 ? t : std::min(t, real(m.window));
  return (w * (w + 1) / 2 + (t - w) * w) / t;
}

double chunk_state_elements(const ModelConfig& m, int64_t length) {
  const int64_t d = m.width, f = layer_width(m), wanted = m.fast_weight.chunk;
  const int64_t chunk = wanted > 0 ? std::min(wanted, length) : fastest_chunk(length, f, d, at::kCUDA);
  if (chunk >= length) return 0;
  const int64_t tensors = m.fast_weight.inner_steps * (m.fast_weight.fast_layers == "both" ? 2 : 1);
  return std::ceil(real(length) / real(chunk)) * real(d * f * tensors);
}

}  // namespace

const std::array<const char*, kWorkKinds> kWorkNames = {
    "matrix products", "full attention", "window attention", "elementwise",  "softmax rows",
    "fast layer",      "chunk states",   "parameters",       "micro-batches"};

StepWork count_work(const RunConfig& c, const MeshShape& shape, int64_t micro_rows) {
  const ModelConfig& m = c.model;
  const int64_t rows = c.train.global_batch / shape.data, length = m.context / shape.sequence;
  const double tokens = real(rows * length), d = real(m.width);
  const Flops part = flops_of_part(m, shape.sequence);
  const bool windowed = m.window > 0 && m.window < m.context;
  StepWork work{};
  work[kMatrixProducts] = real(rows) * (part.body + part.layer + part.head) / 1e12;
  work[windowed ? kWindowAttention : kFullAttention] =
      real(rows) * part.attention / 1e12 * (1 + kHalfRateReach / mean_reach(m));
  work[kElementwise] = tokens * real(m.layers + (m.fast_weight.has_block() ? 1 : 0)) * d * 2 / 1e9;
  const int64_t steps = is_fast(m) ? m.fast_weight.inner_steps : 0;
  const bool hessian = m.fast_weight.second_order && m.fast_weight.hessian_threshold == 0;
  work[kSoftmaxRows] = tokens * real(m.vocab_size) * 2 * real(1 + (hessian ? 2 : 1) * steps) / 1e9;
  if (is_fast(m)) {
    work[kLayerElementwise] = tokens * real(steps * layer_width(m)) * 2 / 1e9;
    work[kChunkStates] = real(rows) * chunk_state_elements(m, length) * 4 / 1e9;
  }
  work[kParameters] = real(count_parameters(m)) / 1e8;
  work[kMicroBatches] = std::ceil(real(rows) / real(micro_rows));
  return work;
}

double step_flops(const RunConfig& c) {
  return real(c.train.global_batch) * training_flops(c.model, c.model.context, at::kCUDA).total();
}

double time_of(const StepWork& work, const WorkRates& rates) {
  return std::inner_product(work.begin(), work.end(), rates.begin(), 0.0);
}

const WorkRates& profiled_rates() {
  // 708 and 209 TFLOP/s at a reach of 512 (so twice as fast far beyond), cuDNN's window 15 % slower; of
  // static 64 x 1,024 10.5 ms of elementwise work and 3.9 ms of softmax rows; of FWL 16 x 1,024 1 ms in the
  // layer, 1.5 ms of optimizer and what is as long as the parameters, 1.6 ms in which no kernel runs.
  static const WorkRates rates = {1.41e-3, 2.39e-3, 2.75e-3, 8e-3, 0.59e-3, 10e-3, 4e-3, 1.15e-3, 1.6e-3};
  return rates;
}

const WorkRates& rate_doubts() {
  static const WorkRates doubts = {0.08, 0.3, 0.4, 0.2, 0.2, 0.4, 0.7, 0.5, 1.0};
  return doubts;
}

const WorkRates& h200_rates() {
  static const WorkRates rates = {1.4632e-3, 3.0530e-3, 3.4754e-3,  4.7814e-3, 0.73753e-3,
                                  16.139e-3, 4.0000e-3, 0.90114e-3, 0.34552e-3};
  return rates;
}

WorkRates rates_for(const Gpu& gpu, const WorkRates& h200) {
  const Gpu& base = find_gpu("h200");
  const double compute = base.bf16_flops / gpu.bf16_flops,
               memory = base.memory_bandwidth / gpu.memory_bandwidth;
  WorkRates rates = h200;
  for (const WorkKind kind : {kMatrixProducts, kFullAttention, kWindowAttention}) rates[kind] *= compute;
  for (const WorkKind kind : {kElementwise, kSoftmaxRows, kLayerElementwise, kChunkStates, kParameters})
    rates[kind] *= memory;
  return rates;
}

}  // namespace fwl
