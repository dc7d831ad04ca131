// Line charts as inline SVG for a page of launch/report/page.h, whose style they use (classes s0..s3, grid,
// axis). Lines differ by colour, by dashes and by markers, so that no meaning hangs on colour alone.
#pragma once

#include <string>
#include <vector>

namespace fwl {

struct Series {
  std::string label;
  std::vector<double> x;  // ascending
  std::vector<double> y;  // as many as x; points that are not finite are left out
  size_t look = 0;        // colour, dashes and markers; one thing keeps its look in all charts of a page
};

struct LineChart {
  std::string description;  // one sentence, read out instead of the picture
  std::string x_label;      // with its unit
  std::string y_label;
  std::string caption;  // below the chart; may be empty
  std::vector<Series> series;
};

// Multiples of 1, 2 or 5 times a power of ten that lie in [low, high], about `count` of them (at least one
// step apart; never more than 2.5 times as many). Throws InternalError unless low < high are finite and count
// > 0.
std::vector<double> nice_ticks(double low, double high, int count);
// The ticks as text, all with one unit prefix ("0.5 M", "1.0 M") and with as many digits as tell them apart.
std::vector<std::string> tick_labels(const std::vector<double>& ticks);

// Mean over a centred window of 2 * half_width + 1 points; at the ends the window shrinks to what there is.
std::vector<double> smooth(const std::vector<double>& values, int half_width);
// At most `count` points of the series, evenly chosen, always with the first and the last.
Series thin(const Series& series, int count);

// The chart as an HTML figure: legend, picture, caption. A chart without any finite point says so.
std::string html_figure(const LineChart& chart);

}  // namespace fwl
