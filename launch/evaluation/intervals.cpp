#include "launch/evaluation/intervals.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "core/base/error.h"

namespace fwl {
namespace {

__extension__ using Wide = unsigned __int128;

// Value below which the share `q` of the sorted values lies, between neighbours linearly.
double quantile(const std::vector<double>& sorted, double q) {
  const double place = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(place);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return sorted[below] + (place - static_cast<double>(below)) * (sorted[above] - sorted[below]);
}

}  // namespace

std::optional<Interval> bootstrap_interval(const std::vector<double>& numerator,
                                           const std::vector<double>& denominator, int64_t resamples,
                                           uint64_t seed) {
  require<InternalError>(numerator.size() == denominator.size(), "a ratio of ", numerator.size(), " and ",
                         denominator.size(), " documents");
  const size_t documents = numerator.size();
  if (documents < 2) return {};
  // The engine's numbers are the standard's; its distributions are not, so the mapping is written out.
  std::mt19937_64 engine(seed);
  std::vector<double> ratios;
  for (int64_t r = 0; r < resamples; ++r) {
    double above = 0, below = 0;
    for (size_t i = 0; i < documents; ++i) {
      const auto drawn = static_cast<size_t>((Wide{engine()} * documents) >> 64);
      above += numerator[drawn];
      below += denominator[drawn];
    }
    if (below > 0) ratios.push_back(above / below);
  }
  if (ratios.empty() || !std::all_of(ratios.begin(), ratios.end(), [](double x) { return std::isfinite(x); }))
    return {};
  std::sort(ratios.begin(), ratios.end());
  return Interval{quantile(ratios, 0.025), quantile(ratios, 0.975)};
}

}  // namespace fwl
