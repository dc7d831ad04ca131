#include "core/fast_weight/state.h"

namespace fwl {

FastWeightState state_of_step(const FastWeightState& state, int64_t step, int64_t steps) {
  if (steps == 1) return state;
  const auto part = [&](const Tensor& t) {
    const int64_t rows = t.defined() ? t.size(1) / steps : 0;
    return t.defined() ? t.narrow(1, step * rows, rows) : t;
  };
  return {part(state.dense1_bfd), part(state.dense2_bdf), part(state.norm_bd)};
}

FastWeightState join_steps(const std::vector<FastWeightState>& states) {
  if (states.size() == 1) return states.front();
  const auto joined = [&](Tensor FastWeightState::*member) {
    std::vector<Tensor> parts;
    for (const FastWeightState& state : states) {
      if ((state.*member).defined()) parts.push_back(state.*member);
    }
    return parts.empty() ? Tensor() : at::cat(parts, 1);
  };
  return {joined(&FastWeightState::dense1_bfd), joined(&FastWeightState::dense2_bdf),
          joined(&FastWeightState::norm_bd)};
}

}  // namespace fwl
