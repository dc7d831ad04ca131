#include "launch/report/svg_chart.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "core/base/error.h"
#include "launch/report/page.h"

namespace fwl {

namespace {

// Size in SVG's units; the page scales the picture. The margins hold the large text of a narrow screen.
constexpr double kWidth = 640, kHeight = 340, kLeft = 78, kRight = 16, kTop = 34, kBottom = 62;
constexpr int kMarksPerSeries = 8;
constexpr int kStyles = 4;
constexpr std::array<const char*, kStyles> kDashes = {"none", "7 4", "2 3", "10 3 2 3"};

struct Extent {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
  bool empty() const { return low > high; }
  void add(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
  // Never of size zero: a single value gets room around it.
  Extent with_margin(double share) const {
    const double size = high > low ? high - low : std::max(1.0, std::abs(high));
    return {low - share * size, high + share * size};
  }
};

// Maps data to the picture. SVG's y grows downwards.
struct Frame {
  Extent x, y;
  double at_x(double value) const {
    return kLeft + (value - x.low) / (x.high - x.low) * (kWidth - kLeft - kRight);
  }
  double at_y(double value) const {
    return kHeight - kBottom - (value - y.low) / (y.high - y.low) * (kHeight - kTop - kBottom);
  }
};

bool is_finite_point(const Series& series, size_t i) {
  return std::isfinite(series.x[i]) && std::isfinite(series.y[i]);
}

std::string point(double x, double y) {
  return fixed(x, 1) + " " + fixed(y, 1);
}

std::string line(const std::string& style, double x1, double y1, double x2, double y2) {
  return cat("<line class=\"", style, "\" x1=\"", fixed(x1, 1), "\" y1=\"", fixed(y1, 1), "\" x2=\"",
             fixed(x2, 1), "\" y2=\"", fixed(y2, 1), "\"/>\n");
}

std::string text(const std::string& content, double x, double y, const std::string& anchor) {
  return cat("<text x=\"", fixed(x, 1), "\" y=\"", fixed(y, 1), "\" text-anchor=\"", anchor, "\">",
             escape_html(content), "</text>\n");
}

// A marker around (x, y): circle, square, triangle or diamond.
std::string mark(size_t style, double x, double y) {
  const std::array<std::string, kStyles> shapes = {
      cat("M", point(x - 4, y), "a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z"),
      cat("M", point(x - 3.5, y - 3.5), "h7v7h-7z"), cat("M", point(x, y - 4.5), "l4.5 8h-9z"),
      cat("M", point(x, y - 5), "l5 5l-5 5l-5 -5z")};
  return cat("<path class=\"mark s", style, "\" d=\"", shapes.at(style), "\"/>\n");
}

std::string curve(size_t style, const std::string& path) {
  return cat("<path class=\"curve s", style, "\" stroke-dasharray=\"", kDashes.at(style), "\" d=\"", path,
             "\"/>\n");
}

// The line with its markers. Markers of different series are shifted against each other.
std::string draw_series(const Series& series, size_t style, const Frame& frame) {
  std::string path, marks;
  const double spacing = (frame.x.high - frame.x.low) / kMarksPerSeries;
  double next_mark = frame.x.low + spacing * (0.3 + 0.4 * static_cast<double>(style) / kStyles);
  for (size_t i = 0; i < series.x.size(); ++i) {
    if (!is_finite_point(series, i)) continue;
    const double x = frame.at_x(series.x[i]), y = frame.at_y(series.y[i]);
    path += (path.empty() ? "M" : "L") + point(x, y);
    if (series.x[i] < next_mark) continue;
    marks += mark(style, x, y);
    while (next_mark <= series.x[i]) next_mark += spacing;
  }
  return curve(style, path) + marks;
}

std::string draw_x_axis(const Frame& frame, const std::string& label) {
  const auto ticks = nice_ticks(frame.x.low, frame.x.high, 5);
  const auto labels = tick_labels(ticks);
  const double bottom = kHeight - kBottom;
  std::string svg = line("axis", kLeft, bottom, kWidth - kRight, bottom);
  for (size_t i = 0; i < ticks.size(); ++i) {
    const double x = frame.at_x(ticks[i]);
    svg += line("axis", x, bottom, x, bottom + 5) + text(labels[i], x, bottom + 24, "middle");
  }
  return svg + text(label, kWidth - kRight, kHeight - 8, "end");
}

std::string draw_y_axis(const Frame& frame, const std::string& label) {
  const auto ticks = nice_ticks(frame.y.low, frame.y.high, 5);
  const auto labels = tick_labels(ticks);
  std::string svg;
  for (size_t i = 0; i < ticks.size(); ++i) {
    const double y = frame.at_y(ticks[i]);
    svg += line(ticks[i] == 0 ? "axis" : "grid", kLeft, y, kWidth - kRight, y) +
           text(labels[i], kLeft - 8, y + 5, "end");
  }
  return svg + text(label, 0, 18, "start");
}

std::string legend(const LineChart& chart) {
  std::string html = "<ul class=\"legend\">\n";
  for (const Series& series : chart.series) {
    const size_t style = series.look % kStyles;
    html += cat("<li><svg viewBox=\"0 0 40 12\" aria-hidden=\"true\">", curve(style, "M0 6L40 6"),
                mark(style, 20, 6), "</svg>", escape_html(series.label), "</li>\n");
  }
  return html + "</ul>\n";
}

Frame frame_of(const LineChart& chart) {
  Extent x, y;
  for (const Series& series : chart.series) {
    require<InternalError>(series.x.size() == series.y.size(), "series '", series.label, "' has ",
                           series.x.size(), " x values for ", series.y.size(), " y values");
    for (size_t i = 0; i < series.x.size(); ++i) {
      if (!is_finite_point(series, i)) continue;
      x.add(series.x[i]);
      y.add(series.y[i]);
    }
  }
  if (x.empty()) return {x, y};
  return {x.high > x.low ? x : x.with_margin(0.5), y.with_margin(0.06)};
}

}  // namespace

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

std::vector<double> smooth(const std::vector<double>& values, int half_width) {
  const auto count = static_cast<int64_t>(values.size());
  std::vector<double> means(values.size());
  for (int64_t i = 0; i < count; ++i) {
    const int64_t reach = std::min<int64_t>({half_width, i, count - 1 - i});
    double sum = 0;
    for (int64_t j = i - reach; j <= i + reach; ++j) sum += values[j];
    means[i] = sum / static_cast<double>(2 * reach + 1);
  }
  return means;
}

Series thin(const Series& series, int count) {
  require<InternalError>(count >= 2, "cannot thin a series to ", count, " points");
  const size_t size = series.x.size();
  if (size <= static_cast<size_t>(count)) return series;
  Series thinned{series.label, {}, {}, series.look};
  for (int i = 0; i < count; ++i) {
    const size_t at = i * (size - 1) / (count - 1);
    thinned.x.push_back(series.x[at]);
    thinned.y.push_back(series.y[at]);
  }
  return thinned;
}

std::string html_figure(const LineChart& chart) {
  const Frame frame = frame_of(chart);
  std::string html = "<figure>\n";
  if (frame.x.empty()) {
    html += cat("<p>No points to draw (", escape_html(chart.description), ").</p>\n");
  } else {
    html += legend(chart);
    html += cat("<svg viewBox=\"0 0 ", kWidth, " ", kHeight, "\" role=\"img\" aria-label=\"",
                escape_html(chart.description), "\">\n", draw_y_axis(frame, chart.y_label),
                draw_x_axis(frame, chart.x_label));
    for (const Series& series : chart.series) html += draw_series(series, series.look % kStyles, frame);
    html += "</svg>\n";
  }
  if (!chart.caption.empty()) html += cat("<figcaption>", escape_html(chart.caption), "</figcaption>\n");
  return html + "</figure>\n";
}

}  // namespace fwl
