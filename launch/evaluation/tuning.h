// Searching the setting that loses least on a validation split.
#pragma once

#include <functional>

namespace fwl {

struct Minimum {
  double at = 0, value = 0;
};

// Goes up and down from `start` (> 0) in factors of 3, then of sqrt 3, while the value falls. Infinite values
// (a rate that diverges) are worse than any other; from an infinite start it goes down until it finds a
// finite one.
Minimum search_scale(double start, const std::function<double(double)>& value_at);
// In factors of 3 alone, and with at most kRoughTrials values: for a setting that must only be of the right
// order.
inline constexpr int kRoughTrials = 10;
Minimum search_scale_roughly(double start, const std::function<double(double)>& value_at);

}  // namespace fwl
