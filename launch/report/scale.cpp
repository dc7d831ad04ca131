#include "launch/report/scale.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <limits>

#include "core/base/error.h"
#include "launch/report/page.h"

namespace fwl {
namespace {

// 1, 2 and 5 times powers of ten (`leads`: only the first so many of them) in [low, high].
std::vector<double> logarithmic_ticks(double low, double high, size_t leads) {
  std::vector<double> ticks;
  for (double power = std::pow(10, std::floor(std::log10(low))); power <= high * 1.0001; power *= 10) {
    for (size_t i = 0; i < leads; ++i) {
      const double value = power * std::array{1.0, 2.0, 5.0}.at(i);
      if (value >= low * 0.9999 && value <= high * 1.0001) ticks.push_back(value);
    }
  }
  return ticks;
}

// Every second, third, ... of the ticks, so that at most `count` are left.
std::vector<double> at_most(const std::vector<double>& ticks, size_t count) {
  const size_t step = (ticks.size() + count - 1) / count;
  std::vector<double> kept;
  for (size_t i = 0; i < ticks.size(); i += std::max<size_t>(1, step)) kept.push_back(ticks[i]);
  return kept;
}

}  // namespace

double Scale::at(double value) const {
  const bool logarithmic = kind == ScaleKind::kLogarithmic;
  const double share =
      logarithmic ? std::log(value / low) / std::log(high / low) : (value - low) / (high - low);
  return from + share * (to - from);
}

std::vector<double> nice_ticks(double low, double high, int count) {
  require<InternalError>(std::isfinite(low) && std::isfinite(high) && low < high && count > 0,
                         "no ticks in [", low, ", ", high, "] with count ", count);
  const double raw = (high - low) / count;
  const double power = std::pow(10, std::floor(std::log10(raw)));
  const double lead = raw / power;
  const double step = power * (lead < 1.5 ? 1 : lead < 3.5 ? 2 : lead < 7.5 ? 5 : 10);
  std::vector<double> ticks;
  const double first = std::ceil(low / step - 1e-9), last = std::floor(high / step + 1e-9);
  for (double i = first; i <= last; ++i) ticks.push_back(i == 0 ? 0 : i * step);
  return ticks;
}

std::vector<std::string> tick_labels(const std::vector<double>& ticks) {
  double largest = 0, step = std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < ticks.size(); ++i) {
    largest = std::max(largest, std::abs(ticks[i]));
    if (i > 0) step = std::min(step, ticks[i] - ticks[i - 1]);
  }
  const double unit = largest >= 1e9 ? 1e9 : largest >= 1e6 ? 1e6 : largest >= 1e4 ? 1e3 : 1;
  const std::string prefix = unit == 1e9 ? " G" : unit == 1e6 ? " M" : unit == 1e3 ? " k" : "";
  const double resolution = std::isfinite(step) ? step / unit : std::max(largest, 1e-9) / unit / 10;
  const int digits = std::clamp(static_cast<int>(-std::floor(std::log10(resolution) + 1e-9)), 0, 9);
  std::vector<std::string> labels;
  for (const double tick : ticks) labels.push_back(fixed(tick / unit, digits) + (tick == 0 ? "" : prefix));
  return labels;
}

std::vector<Tick> ticks_of(const Scale& scale, int count) {
  std::vector<Tick> ticks;
  if (scale.kind == ScaleKind::kLogarithmic) {
    std::vector<double> values = logarithmic_ticks(scale.low, scale.high, 1);
    if (values.size() < 3) values = logarithmic_ticks(scale.low, scale.high, 3);
    if (values.size() < 2) values = nice_ticks(scale.low, scale.high, count);
    for (const double value : at_most(values, static_cast<size_t>(count) + 2))
      ticks.push_back({value, compact_number(value)});
    return ticks;
  }
  const std::vector<double> values = nice_ticks(scale.low, scale.high, count);
  const std::vector<std::string> labels = tick_labels(values);
  for (size_t i = 0; i < values.size(); ++i) ticks.push_back({values[i], labels[i]});
  return ticks;
}

std::string compact_number(double value) {
  if (!std::isfinite(value)) return fixed(value, 0);
  const double size = std::abs(value);
  const double unit = size >= 1e9 ? 1e9 : size >= 1e6 ? 1e6 : size >= 1e4 ? 1e3 : 1;
  std::array<char, 32> text;
  const bool whole = size < 1e4 && size == std::floor(size);
  std::snprintf(text.data(), text.size(), whole ? "%.0f" : "%.3g", value / unit);
  return std::string(text.data()) + (unit == 1e9 ? " G" : unit == 1e6 ? " M" : unit == 1e3 ? " k" : "");
}

std::vector<double> smooth(const std::vector<double>& values, int half_width) {
  const auto count = static_cast<int64_t>(values.size());
  std::vector<double> means(values.size());
  for (int64_t i = 0; i < count; ++i) {
    const int64_t first = std::max<int64_t>(0, i - half_width), last = std::min(count - 1, i + half_width);
    double sum = 0;
    for (int64_t j = first; j <= last; ++j) sum += values[static_cast<size_t>(j)];
    means[static_cast<size_t>(i)] = sum / static_cast<double>(last - first + 1);
  }
  return means;
}

}  // namespace fwl
