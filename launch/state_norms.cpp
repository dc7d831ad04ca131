#include "launch/state_norms.h"

#include "launch/tensorboard/step_sizes.h"

namespace fwl {
namespace {

struct FastName {
  const char* name;
  const char* slow;  // the parameter that the state changes
  Tensor FastWeightState::*state;
};
constexpr std::array<FastName, 3> kFastNames = {
    {{"dense1", "fast_weight.dense1.weight", &FastWeightState::dense1_bfd},
     {"dense2", "fast_weight.dense2.weight", &FastWeightState::dense2_bdf},
     {"norm", "fast_weight.norm.scale", &FastWeightState::norm_bd}}};

void add_to(Tensor& sum, const Tensor& value_b) {
  const Tensor value = value_b.sum();
  sum = sum.defined() ? sum + value : value;
}

// One step size for every row of the state, which has scale and bias of a norm below one another.
Tensor step_of_rows(const Tensor& step, int64_t rows) {
  const bool repeats = step.dim() == 1 && step.size(0) < rows;
  return repeats ? step.repeat({rows / step.size(0)}) : step;
}

}  // namespace

void StateNorms::add(const FastWeightState& state) {
  const at::NoGradGuard no_grad;
  for (size_t i = 0; i < kFastNames.size(); ++i) {
    const Tensor& state_bvk = state.*kFastNames[i].state;
    if (!state_bvk.defined()) continue;
    // Norms of rows first: no copy of the state.
    const Tensor rows_bv = at::linalg_vector_norm(state_bvk, 2, {2});
    const Tensor step = step_of_rows(step_size_of(model_, kFastNames[i].name), rows_bv.size(1));
    const Tensor slow = at::linalg_vector_norm(model_.parameters().leaf(kFastNames[i].slow), 2, {}, false,
                                               rows_bv.scalar_type());
    add_to(sums_[i].state, at::linalg_vector_norm(rows_bv, 2, {1}));
    add_to(sums_[i].change, at::linalg_vector_norm(rows_bv * step, 2, {1}) / slow);
    sums_[i].sequences += state_bvk.size(0);
  }
}

MeanStateNorms StateNorms::mean(Communicator& group) const {
  std::vector<double> sums;
  for (const Sum& sum : sums_) {
    const auto host = [](const Tensor& t) { return t.defined() ? t.item<double>() : 0.0; };
    sums.insert(sums.end(), {host(sum.state), host(sum.change), static_cast<double>(sum.sequences)});
  }
  sums = all_reduce_sum(group, sums);
  MeanStateNorms mean;
  for (size_t i = 0; i < kFastNames.size(); ++i) {
    const double sequences = sums[3 * i + 2];
    if (sequences == 0) continue;
    mean.state.emplace_back(kFastNames[i].name, sums[3 * i] / sequences);
    mean.fast_to_slow.emplace_back(kFastNames[i].name, sums[3 * i + 1] / sequences);
  }
  return mean;
}

void WatchedSequence::advance(int64_t length, const FastWeightState& outbound) {
  if (shard_ == Shard::kLast) norms_.add(outbound);
  view_.advance(length, view_.carries_state() ? outbound : FastWeightState{});
}

}  // namespace fwl
