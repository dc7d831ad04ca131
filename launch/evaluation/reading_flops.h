// What a mode computes to read the units of a plan: core/model/flops.h, window by window. Padding of shorter
// rows is left out.
#pragma once

#include "core/model/flops.h"
#include "launch/evaluation/modes.h"
#include "launch/evaluation/reading_plan.h"

namespace fwl {

// Units of carried modes are marked (mark_begins). `segment`: tokens between the updates of dynamic
// evaluation, which are a backward each. `inner_rows`: as SequenceRead's.
double reading_flops(const ModelConfig& config, const std::vector<ReadingUnit>& units, const ModeTraits& mode,
                     Carry::Scope scope, int64_t segment, at::Device device, double inner_rows = -1);

}  // namespace fwl
