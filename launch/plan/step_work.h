// The work of one training step on one GPU, counted from config and layout, and the time it takes at
// measured rates: time = sum over kinds of work of (amount x seconds per unit).
#pragma once

#include <array>
#include <string>

#include "launch/plan/gpu.h"
#include "launch/run_config.h"

namespace fwl {

enum WorkKind {
  kMatrixProducts,    // 1e12 FLOPs
  kFullAttention,     // 1e12 FLOPs, weighted: short reaches are slower
  kWindowAttention,   // the same with a sliding window (another kernel)
  kElementwise,       // 1e9 bytes of one pass over every block's [B, T, d]
  kSoftmaxRows,       // 1e9 bytes of the heads' logits, once each
  kLayerElementwise,  // 1e9 bytes of one pass over the layer's [B, T, f]
  kChunkStates,       // 1e9 bytes of states between chunks, once each
  kParameters,        // 1e8 parameters: optimizer, norm, casts
  kMicroBatches,      // of a step
};
constexpr int kWorkKinds = 9;
extern const std::array<const char*, kWorkKinds> kWorkNames;

using StepWork = std::array<double, kWorkKinds>;
// Seconds per unit of work.
using WorkRates = std::array<double, kWorkKinds>;

// Of one of the ranks of `shape`, whose rows are cut into micro-batches of `micro_rows`.
StepWork count_work(const RunConfig& config, const MeshShape& shape, int64_t micro_rows);
// FLOPs of the step over all ranks (core/model/flops.h): what MFU is reckoned from.
double step_flops(const RunConfig& config);
double time_of(const StepWork& work, const WorkRates& rates);

// Before any measurement of whole steps: from a profile (FWL_PROFILE).
const WorkRates& profiled_rates();
// How far the fit may go from each, relative (one standard deviation).
const WorkRates& rate_doubts();
// Fitted to launch/plan/measurements.json (a test holds them together).
const WorkRates& h200_rates();
// The H200's, scaled by peak FLOP/s and memory bandwidth.
WorkRates rates_for(const Gpu& gpu, const WorkRates& h200);

}  // namespace fwl
