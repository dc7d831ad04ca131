// Axes of a chart: what maps values to places, and the round values that an axis names.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace fwl {

enum class ScaleKind { kLinear, kLogarithmic };

// Maps [low, high] to [from, to]; low < high, both above 0 where it is logarithmic.
struct Scale {
  ScaleKind kind = ScaleKind::kLinear;
  double low = 0, high = 1;
  double from = 0, to = 1;

  double at(double value) const;
};

struct Tick {
  double value = 0;
  std::string label;
};

// Multiples of 1, 2 or 5 times a power of ten that lie in [low, high], about `count` of them (at least one
// step apart; never more than 2.5 times as many). Throws InternalError unless low < high are finite and count
// > 0.
std::vector<double> nice_ticks(double low, double high, int count);
// The ticks as text, all with one unit prefix ("0.5 M", "1.0 M") and with as many digits as tell them apart.
std::vector<std::string> tick_labels(const std::vector<double>& ticks);

// Ticks of a scale, about `count`, with their labels; of a logarithmic one 1, 2 and 5 times powers of ten, or
// powers of ten alone where those are enough.
std::vector<Tick> ticks_of(const Scale& scale, int count);
// "0.002", "12", "34 k", "3e-05": three significant digits at most.
std::string compact_number(double value);

// Mean over a centred window of 2 * half_width + 1 points; at the ends the window shrinks to what there is.
std::vector<double> smooth(const std::vector<double>& values, int half_width);

}  // namespace fwl
