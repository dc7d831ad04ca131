// How much goes on from one sequence to the next, by the config alone.
#pragma once

#include <cstdint>

#include "launch/run_config.h"

namespace fwl {

// The fast weights' state, of one sequence and inner step.
struct StateSize {
  int64_t elements = 0, tensors = 0;
};
StateSize state_size(const ModelConfig& model);

// Elements that all streams of a run with train.stream carry once they are filled (carried_state.h).
int64_t carried_elements(const RunConfig& config);

}  // namespace fwl
