// The inner step sizes of a model, for the log: one by one, for histograms.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/model/language_model.h"

namespace fwl {

// As the layer "dense1", "dense2" or "norm" uses them: one a row, or one alone ([]); with several inner steps
// those of their rows one after the other; undefined where it has none. On the model's device, without
// gradient.
Tensor step_size_of(const LanguageModel& model, const std::string& layer);
// The same of all layers, by layer ("dense1", "dense2", "norm"): one a row, or one alone; empty for a
// control. Copies them to the host.
std::vector<std::pair<std::string, std::vector<float>>> step_sizes_by_row(LanguageModel& model);

}  // namespace fwl
