// When a measured speed says something of the model, and when of what else ran on the machine.
#pragma once

#include <string>
#include <vector>

namespace fwl {

// One reading of one mode.
struct SpeedFigure {
  std::string name;                                   // for messages
  std::string mode;                                   // as --modes spells it, or "static"
  double seconds_per_token = 0, flops_per_token = 0;  // of one rank; NaN: not known
  std::string machine;                                // figures of different ones do not compare
  bool is_disturbed = false;                          // is_below_its_work()
};

// How far the values lie from their median, as a standard deviation that outliers do not move (1.4826 times
// the median of the distances); NaN for fewer than two.
double spread_of(const std::vector<double>& values);

// Whether a time relative to a mode's is less than the FLOPs relative to it allow, by more than its spread
// (NaN: none is known) and a tenth: something else held up the other mode, or the clock.
bool is_below_its_work(double relative_time, double spread, double relative_flops);

// Sentences on what makes these figures no measure of speed: disturbed ones, and modes of windows that stand
// alone that take the same FLOPs but differ by more than 30 % in time. Empty when nothing does.
std::vector<std::string> problems_of(const std::vector<SpeedFigure>& figures);

}  // namespace fwl
