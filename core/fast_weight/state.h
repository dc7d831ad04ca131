// The state of a sequence's fast weights: the decayed sum of the gradients of what was read.
// Shape suffixes: b batch, d width, f hidden.
#pragma once

#include <cstdint>
#include <vector>

#include "core/base/torch.h"

namespace fwl {

// What has been learned before the first position; undefined tensors are zero. Accumulation type. Rows are
// those of all inner steps, one step's after the other's.
struct FastWeightState {
  Tensor dense1_bfd;  // [B, f, d], or [B, f, d + 1] with fast biases
  Tensor dense2_bdf;  // [B, d, f], or [B, d, f + 1] with fast biases
  Tensor norm_bd;     // [B, 2d, 1]: scale, then bias
};
// One step's rows of it, and all of them from those of each step.
FastWeightState state_of_step(const FastWeightState& state, int64_t step, int64_t steps);
FastWeightState join_steps(const std::vector<FastWeightState>& states);

}  // namespace fwl
