// Learning rate over steps: linear warm-up, then a cosine to a floor.
#pragma once

#include <cstdint>

namespace fwl {

struct ScheduleConfig {
  double peak = 1e-3;
  int64_t warmup_steps = 100;
  int64_t total_steps = 1000;
  double floor_fraction = 0.1;  // of the peak, reached at total_steps
};

// `step` counts from 0.
double learning_rate_at(const ScheduleConfig& config, int64_t step);

}  // namespace fwl
