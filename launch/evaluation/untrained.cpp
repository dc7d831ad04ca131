#include "launch/evaluation/untrained.h"

#include <cmath>

#include "core/base/error.h"

namespace fwl {

void require_control(const ModelConfig& model) {
  require<ConfigError>(
      !model.fast_weight.learns(),
      "--modes fast-untrained: this model was trained with fast weights (the mode adds them "
      "to a control, model.fast_weight.update=none). Give a control, or leave the mode out.");
  require<ConfigError>(model.fast_weight.has_block(),
                       "--modes fast-untrained: this model has no layer that could be fast "
                       "(model.fast_weight.update is absent: an ordinary transformer). Give a control with "
                       "update none, or leave the mode out.");
}

std::unique_ptr<LanguageModel> with_fast_weights(LanguageModel& control, at::ScalarType dtype) {
  require_control(control.config());
  ModelConfig config = control.config();
  config.fast_weight.update = "slow_gradient";
  config.fast_weight.step_size_space = "log";
  config.fast_weight.step_size = "row";
  const bool has_start = config.fast_weight.step_size_init > 0;
  if (!has_start) config.fast_weight.step_size_init = FastWeightConfig().step_size_init;
  auto model = std::make_unique<LanguageModel>(config, control.device(), dtype, 0);
  model->set_inner_approximation(control.inner_approximation());
  const at::NoGradGuard no_grad;
  for (const Parameter& parameter : control.parameters().all())
    model->parameters()[parameter.name].copy_(parameter.value);
  return model;
}

void set_step_size(LanguageModel& model, double step_size) {
  const at::NoGradGuard no_grad;
  const double raw = std::log(step_size / static_cast<double>(model.config().width));
  for (const Parameter& parameter : model.parameters().all())
    if (parameter.name.find(".step_size.") != std::string::npos) Tensor(parameter.value).fill_(raw);
}

}  // namespace fwl
