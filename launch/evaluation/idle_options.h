// Options of `fwl eval` that change nothing, which whoever gave them should know.
#pragma once

#include <string>
#include <vector>

#include "launch/evaluation/comparison.h"

namespace fwl {

// A sentence for each option of `options.given` that has no effect on these modes.
std::vector<std::string> idle_options(const ComparisonOptions& options, const std::vector<EvalMode>& modes,
                                      const std::vector<Carry>& carries);

}  // namespace fwl
