// Fast weights switched on at test time only: what a control gains from the layer without having been trained
// with it.
#pragma once

#include <memory>

#include "core/model/language_model.h"

namespace fwl {

// Throws ConfigError unless fast weights can be added to such a model: a control with a block.
void require_control(const ModelConfig& model);
// The control's weights in a model whose block has fast weights, with step sizes and decays of the control's
// config as they would start in training. Throws as require_control.
std::unique_ptr<LanguageModel> with_fast_weights(LanguageModel& control, at::ScalarType dtype);
// Sets all step sizes of such a model to `step_size` / width.
void set_step_size(LanguageModel& model, double step_size);

}  // namespace fwl
