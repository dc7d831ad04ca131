// The median, for times and speeds that outliers must not move.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace fwl {

// The middle value, or the mean of the two in the middle, of those that are numbers; NaN for none.
inline double median(std::vector<double> values) {
  std::erase_if(values, [](double value) { return std::isnan(value); });
  if (values.empty()) return std::numeric_limits<double>::quiet_NaN();
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

}  // namespace fwl
