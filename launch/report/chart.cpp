#include "launch/report/chart.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "core/base/error.h"

namespace fwl {

namespace {

constexpr size_t kColours = 6;
constexpr std::array<const char*, 4> kDashes = {"none", "7 4", "2 3", "10 3 2 3"};
constexpr size_t kMostMarks = 24;   // of a series; denser ones get some of them
constexpr size_t kMostTitles = 80;  // points of a series that say their numbers
constexpr double kStripHeight = 34;

// A picture's size in SVG's units. The page shows it at about one unit a pixel.
struct Canvas {
  const char* name;  // the class that the page's style shows or hides
  double width, height;
  double character;  // width of a digit; letters of a bold label are as wide on average
  bool direct_labels;
};
constexpr Canvas kFullCanvas{"wide", 960, 400, 7.6, true};
constexpr Canvas kHalfCanvas{"wide", 470, 310, 7.6, false};
constexpr Canvas kNarrowCanvas{"narrow", 350, 280, 7.6, false};

struct Extent {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
  bool empty() const { return low > high; }
  void add(double value) {
    if (!std::isfinite(value)) return;
    low = std::min(low, value);
    high = std::max(high, value);
  }
};

struct Frame {
  Canvas canvas;
  Scale x, y;
  double left = 0, right = 0, top = 0, bottom = 0;
};

bool is_drawn(const Chart& chart, const Series& s, size_t i) {
  return std::isfinite(s.x[i]) && std::isfinite(s.y[i]) &&
         (chart.x.kind == ScaleKind::kLinear || s.x[i] > 0) &&
         (chart.y.kind == ScaleKind::kLinear || s.y[i] > 0) && !(s.y[i] > chart.y.high) &&
         !(s.y[i] < chart.y.low);
}

int64_t length_of(const std::string& text) {
  return std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; });
}

std::string shortened(const std::string& text, size_t most) {
  if (static_cast<size_t>(length_of(text)) <= most) return text;
  size_t bytes = 0;
  for (size_t seen = 0; bytes < text.size() && seen < most; ++bytes) seen += (text[bytes + 1] & 0xC0) != 0x80;
  return text.substr(0, bytes) + "\u2026";
}

std::string place(double x, double y) {
  return fixed(x, 1) + " " + fixed(y, 1);
}

std::string line(const std::string& style, double x1, double y1, double x2, double y2) {
  return cat("<line class=\"", style, "\" x1=\"", fixed(x1, 1), "\" y1=\"", fixed(y1, 1), "\" x2=\"",
             fixed(x2, 1), "\" y2=\"", fixed(y2, 1), "\"/>\n");
}

std::string text(const std::string& content, double x, double y, const std::string& anchor,
                 const std::string& style = "") {
  return cat("<text", style.empty() ? "" : cat(" class=\"", style, "\""), " x=\"", fixed(x, 1), "\" y=\"",
             fixed(y, 1), "\" text-anchor=\"", anchor, "\">", escape_html(content), "</text>\n");
}

// A marker around (x, y): circle, square, triangle, diamond, cross or a triangle that stands on its tip.
std::string mark(const Look& look, double x, double y) {
  const std::array<std::string, kColours> shapes = {
      cat("M", place(x - 4, y), "a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z"),
      cat("M", place(x - 3.5, y - 3.5), "h7v7h-7z"),
      cat("M", place(x, y - 4.5), "l4.5 8h-9z"),
      cat("M", place(x, y - 5), "l5 5l-5 5l-5 -5z"),
      cat("M", place(x - 4, y - 4), "l8 8m0 -8l-8 8"),
      cat("M", place(x, y + 4.5), "l4.5 -8h-9z")};
  return cat("<path class=\"mark s", look.colour, "\" d=\"", shapes.at(look.colour), "\"/>\n");
}

std::string curve(const Look& look, const std::string& path) {
  return cat("<path class=\"curve s", look.colour, "\" stroke-dasharray=\"", kDashes.at(look.dashes),
             "\" d=\"", path, "\"/>\n");
}

// An unseen disc that is easy to hit and says the point's numbers.
std::string hit(double x, double y, const std::string& title) {
  return cat("<circle class=\"hit\" cx=\"", fixed(x, 1), "\" cy=\"", fixed(y, 1), "\" r=\"8\"><title>",
             escape_html(title), "</title></circle>\n");
}

std::string title_of(const Series& s, size_t i) {
  if (!s.titles.empty()) return s.titles[i];
  return cat(s.label, ": ", compact_number(s.y[i]), " at ", compact_number(s.x[i]));
}

// The end of an error bar beyond the axis lies on the picture's edge.
double clamped_y(const Frame& frame, double value) {
  return frame.y.at(std::clamp(value, frame.y.low, frame.y.high));
}

std::string draw_error_bar(const Series& s, size_t i, const Frame& frame) {
  if (s.low.empty() || !std::isfinite(s.low[i]) || !std::isfinite(s.high[i])) return "";
  const double x = frame.x.at(s.x[i]), low = clamped_y(frame, s.low[i]), high = clamped_y(frame, s.high[i]);
  const std::string style = cat("error s", s.look.colour);
  return line(style, x, low, x, high) + line(style, x - 4, low, x + 4, low) +
         line(style, x - 4, high, x + 4, high);
}

std::string draw_series(const Chart& chart, const Series& s, size_t index, const Frame& frame) {
  std::string path, marks, hits;
  const size_t mark_every = std::max<size_t>(1, (s.x.size() + kMostMarks / 2) / kMostMarks);
  const size_t hit_every = std::max<size_t>(1, (s.x.size() + kMostTitles / 2) / kMostTitles);
  const size_t shift = mark_every * (index % 4) / 4;  // markers of different series do not lie on each other
  for (size_t i = 0; i < s.x.size(); ++i) {
    if (!is_drawn(chart, s, i)) continue;
    const double x = frame.x.at(s.x[i]), y = frame.y.at(s.y[i]);
    path += (path.empty() ? "M" : "L") + place(x, y);
    if (i % mark_every == shift) marks += draw_error_bar(s, i, frame) + mark(s.look, x, y);
    if (i % hit_every == 0) hits += hit(x, y, title_of(s, i));
  }
  const bool lines = chart.kind == ChartKind::kLines;
  return cat("<g class=\"series\">\n", lines ? curve(s.look, path) : "", marks, hits, "</g>\n");
}

// ---- labels at the curves' ends, or beside the points

struct Label {
  std::string content;
  double x = 0, y = 0;
  size_t colour = 0;
};

// Moves labels down until none lies on another, then up where the lowest left the picture.
void spread(std::vector<Label>& labels, double low, double high) {
  constexpr double kLine = 16;
  std::sort(labels.begin(), labels.end(), [](const Label& a, const Label& b) { return a.y < b.y; });
  for (size_t i = 0; i < labels.size(); ++i)
    labels[i].y = std::max(labels[i].y, i == 0 ? low : labels[i - 1].y + kLine);
  double limit = high;
  for (size_t i = labels.size(); i-- > 0; limit = labels[i].y - kLine)
    labels[i].y = std::min(labels[i].y, limit);
}

std::vector<Label> end_labels(const Chart& chart, const Frame& frame) {
  std::vector<Label> labels;
  for (const Series& s : chart.series) {
    for (size_t i = s.x.size(); i-- > 0;) {
      if (!is_drawn(chart, s, i)) continue;
      labels.push_back({shortened(s.label, 26), frame.right + 10, frame.y.at(s.y[i]), s.look.colour});
      break;
    }
  }
  spread(labels, frame.top + 6, frame.bottom - 4);
  return labels;
}

std::string draw_end_labels(const Chart& chart, const Frame& frame) {
  std::string svg;
  for (const Label& label : end_labels(chart, frame))
    svg += text(label.content, label.x, label.y + 4, "start", cat("direct t", label.colour));
  return svg;
}

bool overlap(const Label& a, const Label& b, double a_width, double b_width) {
  return std::abs(a.y - b.y) < 15 && a.x < b.x + b_width && b.x < a.x + a_width;
}

// Beside each point, where no label lies yet: right, left, above or below.
std::string draw_point_labels(const Chart& chart, const Frame& frame) {
  std::string svg;
  std::vector<Label> placed;
  const auto width_of = [&](const Label& l) {
    return frame.canvas.character * static_cast<double>(length_of(l.content));
  };
  for (const Series& s : chart.series) {
    for (size_t i = 0; i < s.x.size(); ++i) {
      if (!is_drawn(chart, s, i)) continue;
      const double x = frame.x.at(s.x[i]), y = frame.y.at(s.y[i]);
      Label label{s.label, x + 11, y + 4.5, s.look.colour};
      const double width = width_of(label);
      for (const auto& [dx, dy] : std::vector<std::pair<double, double>>{{11, 4.5},
                                                                         {-11 - width, 4.5},
                                                                         {8, -10},
                                                                         {8, 19},
                                                                         {-8 - width, -10},
                                                                         {-8 - width, 19},
                                                                         {11, 34}}) {
        label.x = x + dx;
        label.y = y + dy;
        const bool inside = label.x >= frame.left && label.x + width <= frame.canvas.width;
        if (inside && std::none_of(placed.begin(), placed.end(), [&](const Label& other) {
              return overlap(label, other, width, width_of(other));
            }))
          break;
      }
      placed.push_back(label);
      svg += text(label.content, label.x, label.y, "start", cat("direct t", label.colour));
    }
  }
  return svg;
}

// ---- axes

std::vector<Tick> ticks_for(const Axis& axis, const Scale& scale, int count) {
  if (axis.ticks.empty()) return ticks_of(scale, count);
  std::vector<Tick> ticks;
  for (const Tick& tick : axis.ticks)
    if (tick.value >= scale.low && tick.value <= scale.high) ticks.push_back(tick);
  return ticks;
}

// Named ticks that would lie on each other lose their names, evenly.
std::string draw_x_axis(const Chart& chart, const Frame& frame) {
  const std::vector<Tick> ticks = ticks_for(chart.x, frame.x, frame.canvas.width > 600 ? 8 : 5);
  std::string svg = line("axis", frame.left, frame.bottom, frame.right, frame.bottom);
  double free_from = -1e9;
  for (const Tick& tick : ticks) {
    const double x = frame.x.at(tick.value);
    const double half = frame.canvas.character * static_cast<double>(length_of(tick.label)) / 2;
    svg += line("axis", x, frame.bottom, x, frame.bottom + 5);
    if (x - half < free_from) continue;
    svg += text(tick.label, x, frame.bottom + 20, "middle");
    free_from = x + half + frame.canvas.character;
  }
  return svg + text(chart.x.label, frame.right, frame.bottom + 40, "end", "name");
}

std::string draw_y_axis(const Chart& chart, const Frame& frame) {
  std::string svg;
  for (const Tick& tick : ticks_for(chart.y, frame.y, 5)) {
    const double y = frame.y.at(tick.value);
    const bool zero = tick.value == 0 && chart.y.kind == ScaleKind::kLinear;
    svg += line(zero ? "axis" : "grid", frame.left, y, frame.right, y) +
           text(tick.label, frame.left - 8, y + 4.5, "end");
  }
  return svg + text(chart.y.label, 0, 14, "start", "name");
}

std::string draw_weights(const Chart& chart, const Frame& frame) {
  if (chart.weights.empty()) return "";
  const double width =
      std::max(3.0, 0.6 * (frame.right - frame.left) / static_cast<double>(chart.weights.size()));
  std::string svg;
  for (const Weight& w : chart.weights) {
    const double height = std::max(1.0, w.share * (kStripHeight - 8));
    svg += cat("<rect class=\"weight\" x=\"", fixed(frame.x.at(w.x) - width / 2, 1), "\" y=\"",
               fixed(frame.bottom - height, 1), "\" width=\"", fixed(width, 1), "\" height=\"",
               fixed(height, 1), "\"><title>", escape_html(w.title), "</title></rect>\n");
  }
  return svg;
}

// ---- the frame

Extent extent_of(const Chart& chart, bool of_x) {
  Extent extent;
  for (const Series& s : chart.series) {
    require<InternalError>(s.x.size() == s.y.size(), "series '", s.label, "' has ", s.x.size(),
                           " x values for ", s.y.size(), " y values");
    for (size_t i = 0; i < s.x.size(); ++i) {
      if (!is_drawn(chart, s, i)) continue;
      extent.add(of_x ? s.x[i] : s.y[i]);
      if (of_x || s.low.empty()) continue;
      extent.add(s.low[i]);
      extent.add(s.high[i]);
    }
  }
  return extent;
}

// With room around, and never of size zero. The axis' own limits go before.
Scale scale_of(const Axis& axis, Extent extent, double margin) {
  if (axis.kind == ScaleKind::kLogarithmic) {
    const double room = extent.high > extent.low ? std::pow(extent.high / extent.low, margin) : 2;
    extent = {extent.low / room, extent.high * room};
  } else {
    const double size =
        extent.high > extent.low ? extent.high - extent.low : std::max(1.0, std::abs(extent.high));
    extent = {extent.low - margin * size, extent.high + margin * size};
  }
  if (std::isfinite(axis.low)) extent.low = axis.low;
  if (std::isfinite(axis.high)) extent.high = axis.high;
  return {axis.kind, extent.low, extent.high, 0, 1};
}

double widest(const std::vector<Tick>& ticks, const Canvas& canvas) {
  int64_t most = 1;
  for (const Tick& tick : ticks) most = std::max(most, length_of(tick.label));
  return canvas.character * static_cast<double>(most);
}

Frame frame_of(const Chart& chart, const Canvas& canvas) {
  const bool scatter = chart.kind == ChartKind::kScatter;
  Frame frame{canvas,
              scale_of(chart.x, extent_of(chart, true),
                       scatter                 ? 0.08
                       : chart.weights.empty() ? 0
                                               : 0.04),
              scale_of(chart.y, extent_of(chart, false), scatter ? 0.12 : 0.06)};
  if (!(frame.x.low < frame.x.high)) frame.x = scale_of(chart.x, extent_of(chart, true), 0.5);
  frame.left = 12 + widest(ticks_for(chart.y, frame.y, 5), canvas);
  frame.right = canvas.width - 14;
  if (canvas.direct_labels && !scatter) {
    double most = 0;
    for (const Series& s : chart.series)
      most = std::max(most, static_cast<double>(length_of(shortened(s.label, 26))));
    frame.right = canvas.width - 16 - canvas.character * most;
  }
  frame.top = 30;
  frame.bottom = canvas.height - 48;
  frame.x.from = frame.left;
  frame.x.to = frame.right;
  frame.y.from = frame.bottom - (chart.weights.empty() ? 0 : kStripHeight);
  frame.y.to = frame.top;
  return frame;
}

std::string draw(const Chart& chart, const Canvas& canvas) {
  const Frame frame = frame_of(chart, canvas);
  std::string svg = cat("<svg class=\"", canvas.name, "\" viewBox=\"0 0 ", canvas.width, " ", canvas.height,
                        "\" role=\"img\" aria-label=\"", escape_html(chart.description), "\">\n",
                        draw_y_axis(chart, frame), draw_x_axis(chart, frame), draw_weights(chart, frame));
  for (size_t i = 0; i < chart.series.size(); ++i) svg += draw_series(chart, chart.series[i], i, frame);
  if (canvas.direct_labels)
    svg +=
        chart.kind == ChartKind::kScatter ? draw_point_labels(chart, frame) : draw_end_labels(chart, frame);
  return svg + "</svg>\n";
}

std::string legend(const Chart& chart) {
  if (chart.series.size() < 2 && chart.kind == ChartKind::kLines) return "";
  std::string html = cat("<ul class=\"legend", chart.size == ChartSize::kFull ? " narrow" : "", "\">\n");
  for (const Series& s : chart.series) {
    html += cat("<li><svg viewBox=\"0 0 40 12\" aria-hidden=\"true\">",
                chart.kind == ChartKind::kLines ? curve(s.look, "M0 6L40 6") : "", mark(s.look, 20, 6),
                "</svg>", escape_html(s.label), "</li>\n");
  }
  return html + "</ul>\n";
}

std::string folded_table(const TextTable& table) {
  if (table.rows.empty()) return "";
  return cat("<details><summary>Numbers</summary>\n", html_table(table, ""), "</details>\n");
}

}  // namespace

Look look_of(size_t index) {
  return {index % kColours, index / kColours % kDashes.size()};
}

Series thin(const Series& series, size_t count) {
  require<InternalError>(count >= 2 && series.low.empty() && series.titles.empty(),
                         "cannot thin a series to ", count, " points");
  const size_t size = series.x.size();
  if (size <= count) return series;
  Series thinned{series.label, {}, {}, series.look};
  for (size_t i = 0; i < count; ++i) {
    const size_t at = i * (size - 1) / (count - 1);
    thinned.x.push_back(series.x[at]);
    thinned.y.push_back(series.y[at]);
  }
  return thinned;
}

std::string html_figure(const Chart& chart) {
  std::string html = cat("<figure class=\"chart\">\n<h3>", escape_html(chart.title), "</h3>\n");
  if (extent_of(chart, true).empty()) {
    html += cat("<p>No points to draw (", escape_html(chart.description), ").</p>\n");
  } else {
    html += legend(chart) + draw(chart, chart.size == ChartSize::kFull ? kFullCanvas : kHalfCanvas) +
            draw(chart, kNarrowCanvas);
  }
  if (!chart.caption.empty()) html += cat("<figcaption>", escape_html(chart.caption), "</figcaption>\n");
  return html + folded_table(chart.table) + "</figure>\n";
}

std::string html_grid(const std::vector<Chart>& charts) {
  std::string html = "<div class=\"grid\">\n";
  for (const Chart& chart : charts) html += html_figure(chart);
  return html + "</div>\n";
}

}  // namespace fwl
