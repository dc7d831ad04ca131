// Charts as inline SVG for a page of launch/report/page.h, whose style they use (classes s0..s5, grid, axis).
// A figure holds its picture twice, for wide and for narrow screens; the page's style shows one. Series
// differ by colour, by dashes and by markers, so that no meaning hangs on colour alone. A point says its
// numbers when the mouse rests on it (SVG's <title>: no script).
#pragma once

#include <limits>
#include <string>
#include <vector>

#include "launch/report/page.h"
#include "launch/report/scale.h"

namespace fwl {

// Colour, dashes and markers; one thing keeps its look in all charts of a page.
struct Look {
  size_t colour = 0;
  size_t dashes = 0;  // 0: a full line
};
Look look_of(size_t index);

struct Series {
  std::string label;
  std::vector<double> x;
  std::vector<double> y;  // as many as x; points that are not finite are left out
  Look look;
  std::vector<std::string> titles = {};     // of the points; empty: made from the values
  std::vector<double> low = {}, high = {};  // ends of error bars; empty, or as many as x
};

struct Axis {
  std::string label;  // with its unit
  ScaleKind kind = ScaleKind::kLinear;
  std::vector<Tick> ticks = {};  // empty: round values
  // Points beyond the ends are left out; NaN: the ends are those of the points.
  double low = std::numeric_limits<double>::quiet_NaN();
  double high = std::numeric_limits<double>::quiet_NaN();
};

// A bar at the foot of the picture: how much of the data lies at `x`.
struct Weight {
  double x = 0;
  double share = 0;  // of the largest: 0 to 1
  std::string title;
};

enum class ChartKind { kLines, kScatter };
enum class ChartSize { kFull, kHalf };  // of the page's width, on wide screens

struct Chart {
  std::string title;
  std::string description;  // one sentence, read out instead of the picture
  Axis x, y;
  std::vector<Series> series = {};
  ChartKind kind = ChartKind::kLines;
  ChartSize size = ChartSize::kFull;
  std::vector<Weight> weights = {};
  std::string caption = "";  // below the chart; may be empty
  TextTable table = {};      // the chart's numbers, folded away below it; may be empty
};

// At most `count` points of the series, evenly chosen, always with the first and the last.
Series thin(const Series& series, size_t count);

// The chart as an HTML figure: title, legend, picture, caption, table. A chart without any finite point says
// so.
std::string html_figure(const Chart& chart);
// Several figures in a grid, as many side by side as the screen has room for.
std::string html_grid(const std::vector<Chart>& charts);

}  // namespace fwl
