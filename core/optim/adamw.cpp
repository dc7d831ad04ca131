#include "core/optim/adamw.h"

#include <algorithm>

namespace fwl {

void AdamWConfig::visit_fields(FieldList& list) {
  list.add("beta1", beta1, "decay of the first moments", between(0, 1));
  list.add("beta2", beta2, "decay of the second moments", between(0, 1));
  list.add("epsilon", epsilon, "added to the root of the second moments", at_least(0));
  list.add("weight_decay", weight_decay,
           "decoupled weight decay of matrices (not of norms, biases and step sizes)", at_least(0));
  list.add("step_size_rate_factor", step_size_rate_factor,
           "learning-rate factor of inner step sizes and decays", at_least(0));
}

AdamW::AdamW(Parameters& parameters, const AdamWConfig& config)
    : AdamW(parameters, config, {{0, parameters.count()}}) {}

AdamW::AdamW(Parameters& parameters, const AdamWConfig& config, std::vector<ElementRange> owned)
    : parameters_(parameters), config_(config), owned_(std::move(owned)) {
  int64_t elements = 0;
  for (const ElementRange& range : owned_) {
    moment_offset_.push_back(elements);
    elements += range.count;
  }
  first_ = at::zeros({elements}, parameters.values().options());
  second_ = at::zeros_like(first_);
  updates_ = at::zeros({}, first_.options().dtype(at::kFloat));
}

UpdateScale clipped_scale(const Tensor& norm, double clip) {
  UpdateScale scale;
  scale.inverse = (clip > 0 ? (norm / clip).clamp_min(1) : at::ones_like(norm)).to(at::kFloat);
  scale.skip = norm.isfinite().logical_not().to(at::kFloat);
  return scale;
}

void AdamW::step(double learning_rate, const UpdateScale& scale) {
  begin_update(scale);
  for (size_t i = 0; i < owned_.size(); ++i) update_range(i, learning_rate, scale);
}

void AdamW::update_range(size_t index, double learning_rate, const UpdateScale& scale) {
  const at::NoGradGuard no_grad;
  const ElementRange range = owned_[index];
  for (const ParameterGroup group :
       {ParameterGroup::kDecay, ParameterGroup::kNoDecay, ParameterGroup::kStepSize}) {
    const Tensor whole = parameters_.slice(parameters_.values(), group);
    const int64_t group_first = whole.storage_offset() - parameters_.values().storage_offset();
    const int64_t first = std::max(range.first, group_first);
    const int64_t count = std::min(range.first + range.count, group_first + whole.numel()) - first;
    if (count <= 0) continue;
    const auto part = [&](const Tensor& flat) { return flat.narrow(0, first, count); };
    const auto moments = [&](const Tensor& own) {
      return own.narrow(0, moment_offset_[index] + first - range.first, count);
    };
    const double rate =
        group == ParameterGroup::kStepSize ? learning_rate * config_.step_size_rate_factor : learning_rate;
    const double decay = group == ParameterGroup::kDecay ? config_.weight_decay : 0.0;
    at::_fused_adamw_(part(parameters_.values()), part(parameters_.gradients()), moments(first_),
                      moments(second_), {}, updates_, rate, config_.beta1, config_.beta2, decay,
                      config_.epsilon,
                      /*amsgrad=*/false, /*maximize=*/false, scale.inverse, scale.skip);
  }
}

Tensor global_norm(const Tensor& flat) {
  return at::linalg_vector_norm(flat).to(at::kDouble);
}

}  // namespace fwl
