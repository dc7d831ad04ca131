#include "launch/evaluation/tuning.h"

#include <cmath>
#include <limits>

namespace fwl {
namespace {

constexpr double kSmallest = 1e-12;

double finite_or_worst(double value) {
  return std::isfinite(value) ? value : std::numeric_limits<double>::infinity();
}

}  // namespace

Minimum search_scale(double start, const std::function<double(double)>& value_at) {
  Minimum best{start, finite_or_worst(value_at(start))};
  while (std::isinf(best.value) && best.at > kSmallest) {
    best.at /= 3;
    best.value = finite_or_worst(value_at(best.at));
  }
  for (const double factor : {3.0, std::sqrt(3.0)}) {
    for (const double step : {factor, 1 / factor}) {
      for (double at = best.at * step; at > kSmallest; at *= step) {
        const double value = finite_or_worst(value_at(at));
        if (!(value < best.value)) break;
        best = {at, value};
      }
    }
  }
  return best;
}

}  // namespace fwl
