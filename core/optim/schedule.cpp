#include "core/optim/schedule.h"

#include <algorithm>
#include <cmath>

namespace fwl {

double learning_rate_at(const ScheduleConfig& c, int64_t step) {
  if (step < c.warmup_steps)
    return c.peak * static_cast<double>(step + 1) / static_cast<double>(c.warmup_steps);
  const double span = static_cast<double>(std::max<int64_t>(1, c.total_steps - c.warmup_steps));
  const double progress = std::min(1.0, static_cast<double>(step - c.warmup_steps) / span);
  return c.peak * (c.floor_fraction + (1 - c.floor_fraction) * 0.5 * (1 + std::cos(M_PI * progress)));
}

}  // namespace fwl
