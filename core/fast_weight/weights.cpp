#include "core/fast_weight/weights.h"

#include "core/base/error.h"

namespace fwl {

int64_t decay_heads(const FastWeightWeights& weights) {
  const Tensor& log_decay = weights.log_decay2;
  return log_decay.defined() && log_decay.dim() == 1 ? log_decay.size(0) : 1;
}

std::vector<int64_t> head_widths(int64_t hidden, int64_t heads, int64_t extra) {
  require<InternalError>(heads > 0 && hidden % heads == 0, heads, " heads do not divide ", hidden,
                         " hidden units");
  std::vector<int64_t> widths(static_cast<size_t>(heads), hidden / heads);
  widths.back() += extra;
  return widths;
}

int64_t inner_steps(const FastWeightWeights& weights) {
  return 1 + static_cast<int64_t>(weights.more_steps.size());
}

FastWeightWeights weights_of_step(const FastWeightWeights& weights, int64_t step) {
  FastWeightWeights w = weights;
  w.more_steps.clear();
  if (step == 0) return w;
  const StepRates& rates = weights.more_steps.at(static_cast<size_t>(step - 1));
  w.step_size1 = rates.step_size1;
  w.step_size2 = rates.step_size2;
  w.log_decay1 = rates.log_decay1;
  w.log_decay2 = rates.log_decay2;
  return w;
}

}  // namespace fwl
