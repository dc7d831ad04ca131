// The inner step sizes of a model, one by one, for histograms.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/model/language_model.h"

namespace fwl {

// As the layer uses them, by layer ("dense1", "dense2", "norm"): one a row, or one alone; empty for a
// control. Copies them to the host.
std::vector<std::pair<std::string, std::vector<float>>> step_sizes_by_row(LanguageModel& model);

}  // namespace fwl
