#include "launch/evaluation/speed.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

#include "core/base/error.h"
#include "core/base/median.h"

namespace fwl {
namespace {

constexpr double kEqualWork = 0.05;  // by which FLOPs of equal work may differ
constexpr double kEqualTime = 1.30;  // more says that the machine was not the same
constexpr double kBelowWork = 0.90;  // a relative time below this part of the relative FLOPs

// Modes whose windows stand alone are read in the same batches.
bool reads_windows_alone(const std::string& mode) {
  return mode == "slow" || mode == "static" || mode == "fast" || mode == "fast-untrained";
}

bool do_equal_work(const SpeedFigure& a, const SpeedFigure& b) {
  return a.machine == b.machine && reads_windows_alone(a.mode) && reads_windows_alone(b.mode) &&
         std::abs(a.flops_per_token - b.flops_per_token) <= kEqualWork * b.flops_per_token;
}

std::string percent(double factor) {
  char text[32];
  std::snprintf(text, sizeof text, "%.0f %%", 100 * (factor - 1));
  return text;
}

}  // namespace

double spread_of(const std::vector<double>& values) {
  if (values.size() < 2) return std::numeric_limits<double>::quiet_NaN();
  const double center = median(values);
  std::vector<double> distances;
  for (const double value : values) distances.push_back(std::abs(value - center));
  return 1.4826 * median(distances);
}

bool is_below_its_work(double relative_time, double spread, double relative_flops) {
  return relative_time + (std::isfinite(spread) ? spread : 0) < kBelowWork * relative_flops;
}

std::vector<std::string> problems_of(const std::vector<SpeedFigure>& figures) {
  std::vector<std::string> problems;
  std::string disturbed;
  for (const SpeedFigure& figure : figures)
    if (figure.is_disturbed) disturbed += (disturbed.empty() ? "" : ", ") + figure.name;
  if (!disturbed.empty())
    problems.push_back(
        cat("speed not reliable: the time of ", disturbed,
            " (marked !) is below its share of the FLOPs, so the machine was disturbed. Measure "
            "again while nothing else runs."));
  for (size_t i = 0; i < figures.size(); ++i) {
    for (size_t k = 0; k < i; ++k) {
      const SpeedFigure &a = figures[k], &b = figures[i];
      const double factor = std::max(a.seconds_per_token, b.seconds_per_token) /
                            std::min(a.seconds_per_token, b.seconds_per_token);
      if (!do_equal_work(a, b) || !(factor > kEqualTime)) continue;
      problems.push_back(cat("speed not reliable: ", a.name, " and ", b.name,
                             " do equal work, but their times differ by ", percent(factor),
                             ". Measure again while nothing else runs."));
    }
  }
  return problems;
}

}  // namespace fwl
