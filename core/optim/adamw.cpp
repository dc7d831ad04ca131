#include "core/optim/adamw.h"

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
    : parameters_(parameters),
      config_(config),
      first_(at::zeros_like(parameters.values())),
      second_(at::zeros_like(parameters.values())) {}

void AdamW::step(double learning_rate, double gradient_scale) {
  const at::NoGradGuard no_grad;
  updates_ += 1;
  const Tensor update =
      at::full({}, static_cast<double>(updates_), parameters_.values().options().dtype(at::kFloat));
  const Tensor inverse_scale =
      at::full({}, 1.0 / gradient_scale, parameters_.values().options().dtype(at::kFloat));
  for (const ParameterGroup group :
       {ParameterGroup::kDecay, ParameterGroup::kNoDecay, ParameterGroup::kStepSize}) {
    const auto part = [&](const Tensor& flat) { return parameters_.slice(flat, group); };
    if (part(first_).numel() == 0) continue;
    const double rate =
        group == ParameterGroup::kStepSize ? learning_rate * config_.step_size_rate_factor : learning_rate;
    const double decay = group == ParameterGroup::kDecay ? config_.weight_decay : 0.0;
    at::_fused_adamw_(part(parameters_.values()), part(parameters_.gradients()), part(first_), part(second_),
                      {}, update, rate, config_.beta1, config_.beta2, decay, config_.epsilon,
                      /*amsgrad=*/false, /*maximize=*/false, inverse_scale);
  }
}

double global_norm(const Tensor& flat) {
  return at::linalg_vector_norm(flat).item<double>();
}

}  // namespace fwl
