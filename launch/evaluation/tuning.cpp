#include "launch/evaluation/tuning.h"

#include <cmath>
#include <limits>
#include <map>

namespace fwl {
namespace {

constexpr double kSmallest = 1e-12;

double finite_or_worst(double value) {
  return std::isfinite(value) ? value : std::numeric_limits<double>::infinity();
}

}  // namespace

Minimum search_scale(double start, const std::function<double(double)>& value_at) {
  // Places by their number of factors of sqrt 3 from the start: the fine search comes back to coarse ones.
  std::map<int, double> known;
  const auto place = [&](int steps) { return start * std::pow(3.0, 0.5 * steps); };
  const auto value = [&](int steps) {
    const auto found = known.find(steps);
    if (found != known.end()) return found->second;
    return known[steps] = finite_or_worst(value_at(place(steps)));
  };
  int best = 0;
  while (std::isinf(value(best)) && place(best) > kSmallest) best -= 2;
  for (const int step : {2, -2, 1, -1}) {
    while (place(best + step) > kSmallest && value(best + step) < value(best)) best += step;
  }
  return {place(best), value(best)};
}

}  // namespace fwl
