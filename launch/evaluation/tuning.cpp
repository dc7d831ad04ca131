#include "launch/evaluation/tuning.h"

#include <cmath>
#include <limits>
#include <map>
#include <vector>

namespace fwl {
namespace {

constexpr double kSmallest = 1e-12;

double finite_or_worst(double value) {
  return std::isfinite(value) ? value : std::numeric_limits<double>::infinity();
}

// Places by their number of factors of sqrt 3 from the start: the fine search comes back to coarse ones.
// Beyond `most` values every place is infinitely bad.
class Search {
 public:
  Search(double start, const std::function<double(double)>& value_at, int most)
      : start_(start), value_at_(value_at), most_(most) {}
  Minimum run(const std::vector<int>& steps) {
    int best = 0;
    while (std::isinf(value(best)) && may_go_to(best - 2)) best -= 2;
    for (const int step : steps)
      while (may_go_to(best + step) && value(best + step) < value(best)) best += step;
    return {place(best), value(best)};
  }

 private:
  double place(int steps) const { return start_ * std::pow(3.0, 0.5 * steps); }
  bool is_known(int steps) const { return known_.count(steps) > 0; }
  bool may_go_to(int steps) const {
    return place(steps) > kSmallest && (is_known(steps) || static_cast<int>(known_.size()) < most_);
  }
  double value(int steps) {
    if (!is_known(steps)) known_[steps] = finite_or_worst(value_at_(place(steps)));
    return known_[steps];
  }

  double start_;
  const std::function<double(double)>& value_at_;
  int most_;
  std::map<int, double> known_;
};

}  // namespace

Minimum search_scale(double start, const std::function<double(double)>& value_at) {
  return Search(start, value_at, std::numeric_limits<int>::max()).run({2, -2, 1, -1});
}

Minimum search_scale_roughly(double start, const std::function<double(double)>& value_at) {
  return Search(start, value_at, kRoughTrials).run({2, -2});
}

}  // namespace fwl
