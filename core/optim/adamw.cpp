#include "core/optim/adamw.h"

#include <algorithm>

#include "core/kernels/adamw_update.h"

namespace fwl {

void AdamWConfig::visit_fields(FieldList& list) {
  list.add("beta1", beta1, "decay of the first moments", from_to_below(0, 1));
  list.add("beta2", beta2, "decay of the second moments", from_to_below(0, 1));
  list.add("epsilon", epsilon, "added to the root of the second moments", at_least(1e-30));
  list.add("weight_decay", weight_decay,
           "decoupled weight decay of matrices (not of norms, biases and step sizes)", at_least(0));
  list.add("step_size_rate_factor", step_size_rate_factor,
           "learning-rate factor of inner step sizes and decays", at_least(0));
}

AdamW::AdamW(Parameters& parameters, const AdamWConfig& config)
    : AdamW(parameters, config, {{0, parameters.count()}}) {}

AdamW::AdamW(Parameters& parameters, const AdamWConfig& config, std::vector<ElementRange> owned,
             Masters masters)
    : parameters_(parameters), config_(config), owned_(std::move(owned)) {
  int64_t elements = 0;
  for (const ElementRange& range : owned_) {
    moment_offset_.push_back(elements);
    elements += range.count;
  }
  first_ = at::zeros({elements}, parameters.gradients().options());
  second_ = at::zeros_like(first_);
  updates_ = at::zeros({}, first_.options().dtype(at::kFloat));
  if (masters == Masters::kParameters) return;
  masters_ = at::empty_like(first_);
  set_values(parameters.values());
}

void AdamW::set_values(const Tensor& values) {
  const at::NoGradGuard no_grad;
  for (size_t i = 0; masters_.defined() && i < owned_.size(); ++i)
    masters_.narrow(0, moment_offset_[i], owned_[i].count)
        .copy_(values.narrow(0, owned_[i].first, owned_[i].count));
  parameters_.store(0, values);
}

UpdateScale clipped_scale(const Tensor& norm, double clip) {
  UpdateScale scale;
  scale.inverse = (clip > 0 ? (norm / clip).clamp_min(1) : at::ones_like(norm)).to(at::kFloat);
  scale.skip = norm.isfinite().logical_not().to(at::kFloat);
  return scale;
}

void AdamW::step(double learning_rate, const UpdateScale& scale) {
  // An update that is skipped writes no copies.
  const bool all = !masters_.defined() && owned_.size() == 1 && owned_.front().count == parameters_.count();
  const bool fresh = all && parameters_.has_fresh_copies();
  begin_update(scale);
  for (size_t i = 0; i < owned_.size(); ++i) update_range(i, learning_rate, scale);
  if (fresh) parameters_.copies_are_fresh();
}

void AdamW::update_range(size_t index, double learning_rate, const UpdateScale& scale) {
  const at::NoGradGuard no_grad;
  const ElementRange range = owned_[index];
  const auto own = [&](const Tensor& kept, int64_t first, int64_t count) {
    return kept.narrow(0, moment_offset_[index] + first - range.first, count);
  };
  for (const ParameterGroup group :
       {ParameterGroup::kDecay, ParameterGroup::kNoDecay, ParameterGroup::kStepSize}) {
    const ElementRange whole = parameters_.range_of(group);
    const int64_t first = std::max(range.first, whole.first);
    const int64_t count = std::min(range.first + range.count, whole.first + whole.count) - first;
    if (count <= 0) continue;
    Tensor values =
        masters_.defined() ? own(masters_, first, count) : parameters_.values().narrow(0, first, count);
    const double rate =
        group == ParameterGroup::kStepSize ? learning_rate * config_.step_size_rate_factor : learning_rate;
    const double decay = group == ParameterGroup::kDecay ? config_.weight_decay : 0.0;
    Tensor gradient = parameters_.gradients().narrow(0, first, count),
           first_moment = own(first_, first, count), second_moment = own(second_, first, count);
    const Tensor copy = masters_.defined() ? Tensor() : parameters_.copies_of({first, count});
    adamw_update_(values, gradient, first_moment, second_moment, copy, {updates_, scale.inverse, scale.skip},
                  {rate, config_.beta1, config_.beta2, config_.epsilon, decay});
    if (masters_.defined()) parameters_.store(first, values);
  }
}

Tensor global_norm(const Tensor& flat) {
  return at::linalg_vector_norm(flat).to(at::kDouble);
}

}  // namespace fwl
