#include "launch/report/figures.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "core/base/error.h"

namespace fwl {
namespace {

constexpr size_t kChartPoints = 400;

// Half the width of the smoothing window: 1/60 of the points, at least one neighbour when there are some.
int smoothing_reach(size_t points) {
  return points < 10 ? 0 : std::max<int>(1, static_cast<int>(points / 60));
}

Series smoothed(const std::string& label, const std::vector<double>& x, const std::vector<double>& y,
                Look look) {
  return thin({label, x, smooth(y, smoothing_reach(y.size())), look}, kChartPoints);
}

std::string smoothing_note(size_t points) {
  const int reach = smoothing_reach(points);
  return reach == 0 ? "Each logged step as it is."
                    : cat("Each point is the mean over ", 2 * reach + 1, " logged steps.");
}

std::vector<double> tokens_of(const LoggedRun& run) {
  std::vector<double> tokens;
  for (const LogPoint& point : run.points) tokens.push_back(point.tokens);
  return tokens;
}

// The height below which all points lie after the first 4 % of each curve: the start would press the rest
// flat.
double height_after_start(const std::vector<Series>& series) {
  double high = 0;
  for (const Series& s : series)
    for (size_t i = s.y.size() / 25; i < s.y.size(); ++i) high = std::max(high, s.y[i]);
  return high;
}

// A line per run and logged quantity whose name begins with `prefix`. A run keeps its colour; dashes tell a
// run's quantities apart.
Chart quantity_chart(const std::vector<LoggedRun>& runs, const std::string& prefix, const Axis& y,
                     const std::string& title, const std::string& caption) {
  Chart chart{title, cat(title, " over training tokens"), {"training tokens"}, y};
  chart.size = ChartSize::kHalf;
  chart.caption = caption;
  for (size_t r = 0; r < runs.size(); ++r) {
    std::set<std::string> names;
    for (const LogPoint& point : runs[r].points)
      for (const auto& [name, value] : point.numbers)
        if (name == prefix || name.rfind(prefix + ".", 0) == 0) names.insert(name);
    size_t dashes = look_of(r).dashes;
    for (const std::string& name : names) {
      const std::string part = name == prefix ? "" : ", " + name.substr(prefix.size() + 1);
      Series series{runs[r].label + part, tokens_of(runs[r]), {}, {look_of(r).colour, dashes++ % 4}};
      for (const LogPoint& point : runs[r].points) series.y.push_back(point.number(name));
      chart.series.push_back(thin(series, kChartPoints));
    }
  }
  return chart;
}

// ---- breakdowns

struct Breakdown {
  const char* key;
  const char* title;
  const char* axis;
  const char* at;  // "at position 5-8"
};
constexpr std::array<Breakdown, 4> kBreakdowns = {
    Breakdown{"position", "By position in the document", "position of the token", "position"},
    Breakdown{"train_frequency", "By frequency in training", "times the token occurs in the training data",
              "training count"},
    Breakdown{"occurrence", "By repetition in the document", "times the token has already occurred",
              "earlier occurrences"},
    Breakdown{"document_length", "By length of the document", "tokens of the document", "document length"}};

std::string binary_number(double value) {
  const std::array<std::pair<double, const char*>, 3> units = {
      {{1024.0 * 1024 * 1024, "G"}, {1024.0 * 1024, "M"}, {1024, "k"}}};
  for (const auto& [size, name] : units)
    if (value >= size) return compact_number(value / size) + name;
  return compact_number(value);
}

std::string range_text(const LossBin& bin) {
  return bin.low == bin.high ? compact_number(bin.low)
                             : cat(static_cast<int64_t>(bin.low), "\u2013", static_cast<int64_t>(bin.high));
}

std::string tick_text(const LossBin& bin) {
  return bin.high <= 8 || bin.low == bin.high ? range_text(bin) : "\u2264" + binary_number(bin.high);
}

const std::vector<LossBin>* bins_of(const EvalRow& row, const std::string& key) {
  const auto found = row.breakdowns.find(key);
  return found == row.breakdowns.end() || found->second.empty() ? nullptr : &found->second;
}

bool same_tokens(const std::vector<LossBin>& a, const std::vector<LossBin>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const LossBin& x, const LossBin& y) {
    return x.low == y.low && x.high == y.high && x.tokens == y.tokens;
  });
}

Series gain_series(const EvalRow& row, const std::vector<LossBin>& base, const std::vector<LossBin>& bins,
                   const Breakdown& by, Look look) {
  Series series{row.label, {}, {}, look};
  for (size_t i = 0; i < bins.size(); ++i) {
    const double gain = base[i].nats_per_token() - bins[i].nats_per_token();
    series.x.push_back(static_cast<double>(i));
    series.y.push_back(gain);
    series.titles.push_back(cat(row.label, ", ", by.at, " ", range_text(bins[i]), ": gains ", fixed(gain, 3),
                                " nats/token (", fixed(bins[i].nats_per_token(), 3), " against ",
                                fixed(base[i].nats_per_token(), 3), ")"));
  }
  return series;
}

Chart empty_breakdown(const Breakdown& by, const EvalRow& base_row, const std::vector<LossBin>& base) {
  Chart chart{by.title,
              cat("Gain over ", base_row.label, " ", by.title),
              {by.axis},
              {cat("nats/token gained on ", base_row.label)}};
  chart.size = ChartSize::kHalf;
  chart.table = {{by.axis, "tokens", base_row.label}, {}};
  double all = 0, most = 0;
  for (const LossBin& bin : base) {
    all += bin.tokens;
    most = std::max(most, bin.tokens);
  }
  for (size_t i = 0; i < base.size(); ++i) {
    chart.x.ticks.push_back({static_cast<double>(i), tick_text(base[i])});
    chart.weights.push_back({static_cast<double>(i), base[i].tokens / most,
                             cat(by.at, " ", range_text(base[i]), ": ", short_number(base[i].tokens),
                                 " tokens, ", fixed(100 * base[i].tokens / all, 1), " %")});
    chart.table.rows.push_back(
        {range_text(base[i]), cat(static_cast<int64_t>(base[i].tokens)), fixed(base[i].nats_per_token(), 4)});
  }
  return chart;
}

// A row so far behind the first that the others would lie on one line beside it (the slow pass of a model
// that was trained for its fast one); as long as another row is left to draw.
bool flattens(const std::vector<EvalRow>& rows, size_t i) {
  constexpr double kFarPercent = 25;
  const auto near = [](const EvalRow& row) { return row.change_percent <= kFarPercent; };
  return i > 0 && !near(rows[i]) && std::count_if(rows.begin(), rows.end(), near) > 1;
}

// In a caption.
std::string not_drawn(const std::vector<EvalRow>& rows) {
  std::string names;
  for (size_t i = 0; i < rows.size(); ++i) {
    if (flattens(rows, i))
      names +=
          cat(names.empty() ? "" : "; ", rows[i].label, " (", signed_percent(rows[i].change_percent), ")");
  }
  return names.empty() ? "" : cat(" Not drawn, as it would flatten the others: ", names, ".");
}

std::optional<Chart> breakdown_chart(const std::vector<EvalRow>& rows, const Breakdown& by) {
  const std::vector<LossBin>* base = rows.empty() ? nullptr : bins_of(rows.front(), by.key);
  if (base == nullptr) return {};
  Chart chart = empty_breakdown(by, rows.front(), *base);
  std::string left_out;
  for (size_t r = 1; r < rows.size(); ++r) {
    const std::vector<LossBin>* bins = bins_of(rows[r], by.key);
    if (bins == nullptr || !same_tokens(*bins, *base)) {
      left_out += (left_out.empty() ? "" : "; ") + rows[r].label;
      continue;
    }
    if (!flattens(rows, r)) chart.series.push_back(gain_series(rows[r], *base, *bins, by, look_of(r)));
    chart.table.header.push_back(rows[r].label);
    for (size_t i = 0; i < bins->size(); ++i)
      chart.table.rows[i].push_back(fixed((*bins)[i].nats_per_token(), 4));
  }
  if (chart.series.empty()) return {};
  if (!left_out.empty()) chart.caption = "Without breakdown of the same tokens: " + left_out + ".";
  chart.caption += not_drawn(rows);
  return chart;
}

}  // namespace

GapCurve gap_between(const LoggedRun& baseline, const LoggedRun& run) {
  GapCurve gap{run.label, baseline.label, {}, {}, {}};
  auto other = baseline.points.begin();
  for (const LogPoint& point : run.points) {
    while (other != baseline.points.end() && other->step < point.step) ++other;
    if (other == baseline.points.end()) break;
    if (other->step != point.step) continue;
    gap.step.push_back(point.step);
    gap.tokens.push_back(point.tokens);
    gap.percent.push_back(100 * (point.loss / other->loss - 1));
  }
  return gap;
}

std::vector<GapCurve> gaps(const std::vector<LoggedRun>& runs) {
  std::vector<GapCurve> curves;
  for (size_t i = 1; i < runs.size(); ++i) {
    const std::string &base = runs.front().tokenizer, &own = runs[i].tokenizer;
    if (base.empty() || own.empty() || base == own) curves.push_back(gap_between(runs.front(), runs[i]));
  }
  return curves;
}

Chart loss_chart(const std::vector<LoggedRun>& runs) {
  Chart chart{"Training loss", "Training loss over training tokens", {"training tokens"}, {"nats per token"}};
  size_t most_points = 0;
  for (const LoggedRun& run : runs) {
    std::vector<double> loss;
    for (const LogPoint& point : run.points) loss.push_back(point.loss);
    most_points = std::max(most_points, loss.size());
    chart.series.push_back(smoothed(run.label, tokens_of(run), loss, look_of(chart.series.size())));
  }
  chart.caption = smoothing_note(most_points);
  if (most_points >= 50) {
    chart.y.high = 1.03 * height_after_start(chart.series);
    chart.caption += " Where the first 4 % lie higher, they are left out.";
  }
  return chart;
}

Chart gap_chart(const std::vector<GapCurve>& curves) {
  const std::string& against = curves.front().against;
  Chart chart{cat("The gap to ", against),
              cat("Gap of training loss to ", against, " over training tokens"),
              {"training tokens"},
              {"difference of the loss, %"}};
  size_t most_points = 0;
  for (const GapCurve& curve : curves) {
    most_points = std::max(most_points, curve.tokens.size());
    // The first run is the zero line here; the others keep the look they have among the learning curves.
    chart.series.push_back(
        smoothed(curve.label, curve.tokens, curve.percent, look_of(chart.series.size() + 1)));
  }
  chart.caption = cat("Below zero: a lower loss than ", against, " at the same step, on the same batch. ",
                      smoothing_note(most_points));
  return chart;
}

std::vector<Chart> progress_charts(const std::vector<LoggedRun>& runs) {
  std::vector<Chart> charts = {
      quantity_chart(runs, "step_size", {"mean step size", ScaleKind::kLogarithmic}, "Inner step sizes",
                     "Mean over the rows of each fast layer."),
      quantity_chart(runs, "decay", {"decay per token"}, "Decay of the fast weights",
                     "What is left of a fast weight after one token; 1: nothing is forgotten."),
      quantity_chart(
          runs, "state_norm", {"norm of the state", ScaleKind::kLogarithmic}, "State norms",
          "Frobenius norm of what a window or stream has learned, mean over the step's sequences."),
      quantity_chart(runs, "fast_to_slow", {"fast to slow", ScaleKind::kLogarithmic},
                     "What the fast weights add",
                     "Norm of step size times state after the window, over that of the slow weights."),
      quantity_chart(runs, "grad_norm", {"norm", ScaleKind::kLogarithmic}, "Gradient norm",
                     "Before clipping."),
      quantity_chart(runs, "tokens_per_s", {"tokens per second"}, "Training speed", "All ranks together.")};
  charts.back().y.low = 0;
  charts.erase(std::remove_if(charts.begin(), charts.end(), [](const Chart& c) { return c.series.empty(); }),
               charts.end());
  return charts;
}

std::optional<Chart> speed_quality_chart(const std::vector<EvalRow>& rows) {
  if (rows.size() < 2) return {};
  const std::string& base = rows.front().label;
  Chart chart{
      "Speed against quality",
      cat("Improvement in ", loss_unit(rows), " over time per ", time_unit(rows), ", both against ", base),
      {cat("time per ", time_unit(rows), ", times that of ", base)},
      {cat("improvement of ", loss_unit(rows), ", %")}};
  chart.kind = ChartKind::kScatter;
  for (size_t i = 0; i < rows.size(); ++i) {
    const EvalRow& row = rows[i];
    if (!std::isfinite(row.time_to_baseline) || flattens(rows, i)) continue;
    chart.series.push_back({row.label,
                            {row.time_to_baseline},
                            {-row.change_percent},
                            look_of(i),
                            {cat(row.label, ": ", signed_percent(-row.change_percent), " at ",
                                 fixed(row.time_to_baseline, 2), "x the time")},
                            {-row.change_high},
                            {-row.change_low}});
  }
  chart.caption = cat("Up and to the left is better.",
                      std::isfinite(rows.back().change_low) ? " Bars: 95 % intervals over documents." : "",
                      not_drawn(rows));
  if (chart.series.size() < 2) return {};
  return chart;
}

std::vector<Chart> breakdown_charts(const std::vector<EvalRow>& rows) {
  std::vector<Chart> charts;
  for (const Breakdown& by : kBreakdowns)
    if (std::optional<Chart> chart = breakdown_chart(rows, by)) charts.push_back(std::move(*chart));
  return charts;
}

}  // namespace fwl
