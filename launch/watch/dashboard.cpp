#include "launch/watch/dashboard.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <limits>

#include "core/base/error.h"
#include "core/base/median.h"
#include "launch/report/page.h"

namespace fwl {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr size_t kName = 15;    // width of the column of names
constexpr size_t kRecent = 20;  // points that say how fast it goes now
constexpr size_t kMostPicture = 60;

template <typename... Values>
std::string format(const char* pattern, Values... values) {
  std::array<char, 256> text;
  std::snprintf(text.data(), text.size(), pattern, values...);
  return text.data();
}

bool continues_character(char c) {
  return (c & 0xC0) == 0x80;
}

size_t characters(const std::string& text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return !continues_character(c); }));
}

std::string cut(const std::string& text, size_t width) {
  if (characters(text) <= width) return text;
  size_t bytes = 0;
  for (size_t seen = 0; bytes < text.size(); ++bytes) {
    if (!continues_character(text[bytes]) && ++seen > width) break;
  }
  return text.substr(0, bytes);
}

std::string padded(const std::string& text, size_t width) {
  const size_t have = characters(text);
  return have >= width ? text : text + std::string(width - have, ' ');
}

std::vector<double> column(const std::vector<LogPoint>& points, const std::string& name) {
  std::vector<double> values;
  for (const LogPoint& point : points) values.push_back(point.number(name));
  return values;
}

std::vector<double> losses(const std::vector<LogPoint>& points) {
  std::vector<double> values;
  for (const LogPoint& point : points) values.push_back(point.loss);
  return values;
}

std::string with_commas(int64_t value) {
  std::string text = std::to_string(value);
  for (size_t at = text.size(); at > 3; at -= 3) text.insert(at - 3, ",");
  return text;
}

std::string bytes_text(double bytes) {
  return short_number(bytes) + "B";
}

// ---- lines

struct Canvas {
  size_t width;
  Glyphs glyphs;
};

std::string status_of(const WatchedRun& run) {
  const double step = run.points.empty() ? 0 : static_cast<double>(run.points.back().step);
  if (run.total_steps > 0 && step >= run.total_steps) return "finished";
  if (!run.end.empty()) return run.end;
  if (!run.age_s) return "";
  const std::vector<double> times = column(run.points, "time_s");
  std::vector<double> gaps;
  for (size_t i = 1; i < times.size(); ++i)
    if (times[i] > times[i - 1]) gaps.push_back(times[i] - times[i - 1]);
  const double usual = median(gaps);
  const bool late = std::isfinite(usual) && *run.age_s > std::max(30.0, 5 * usual);
  return cat(late ? "quiet for " : "last line ", duration_text(std::max(0.0, *run.age_s)),
             late ? "" : " ago");
}

std::string title_line(const WatchedRun& run, const Canvas& canvas) {
  const std::string status = status_of(run);
  const size_t room = canvas.width - std::min(canvas.width, characters(status) + 1);
  return cut(padded(cut(run.folder, room), room) + " " + status, canvas.width);
}

std::string progress_line(const WatchedRun& run, const Canvas& canvas) {
  const int64_t step = run.points.back().step;
  if (run.total_steps <= 0) return cat("step ", with_commas(step));
  const double share = std::clamp(static_cast<double>(step) / run.total_steps, 0.0, 1.0);
  const std::string after = cat(format(" %3.0f %%", 100 * share), "  step ", with_commas(step), "/",
                                with_commas(static_cast<int64_t>(run.total_steps)), "  ETA ",
                                share < 1 && run.end.empty() ? duration_text(seconds_left(run)) : "-");
  if (characters(after) + 12 > canvas.width) return cut(after.substr(1), canvas.width);
  const size_t bar = std::min<size_t>(40, canvas.width - characters(after) - 2);
  const auto filled = static_cast<size_t>(share * static_cast<double>(bar));
  return "[" + std::string(filled, '#') + std::string(bar - filled, '.') + "]" + after;
}

// Name, value, and the course of it where there is room; `more` stands behind the value in a wide terminal.
std::string quantity(const std::string& name, const std::string& value, const std::vector<double>& course,
                     const Canvas& canvas, const std::string& more = "") {
  const bool is_wide = canvas.width >= kName + 22 + 10;
  const std::string text = padded(name, kName) + (is_wide ? padded(value + more, 22) : padded(value, 9));
  if (course.size() < 2 || canvas.width < characters(text) + 8) return cut(text, canvas.width);
  const size_t room = std::min(kMostPicture, canvas.width - characters(text) - 1);
  return cut(text + " " + sparkline(course, room, canvas.glyphs), canvas.width);
}

bool logged(const std::vector<double>& values) {
  return std::any_of(values.begin(), values.end(), [](double v) { return std::isfinite(v); });
}

double last_finite(const std::vector<double>& values) {
  for (size_t i = values.size(); i-- > 0;)
    if (std::isfinite(values[i])) return values[i];
  return kNaN;
}

std::string percent(double share) {
  return format("%.1f %%", 100 * share);
}

// `text` in lines of at most `width` characters, broken where two spaces stand.
std::vector<std::string> wrapped(const std::string& text, size_t width) {
  std::vector<std::string> lines;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find("  ", begin), text.size());
    const std::string part = text.substr(begin, end - begin);
    if (lines.empty() || characters(lines.back()) + 2 + characters(part) > width) {
      lines.push_back(part);
    } else {
      lines.back() += "  " + part;
    }
    begin = end + 2;
  }
  return lines;
}

// "dense1 1.1e-02  dense2 7.5e-02"
std::string parts_of(const LogPoint& point, const std::string& prefix, const char* pattern) {
  std::string text;
  for (const auto& [name, value] : point.numbers)
    if (name.rfind(prefix, 0) == 0)
      text += (text.empty() ? "" : "  ") + name.substr(prefix.size()) + " " + format(pattern, value);
  return text;
}

std::string late_ranks(const LogPoint& point) {
  std::vector<std::pair<double, std::string>> lags;
  for (const auto& [name, value] : point.numbers)
    if (name.rfind("rank_lag_s.", 0) == 0) lags.emplace_back(value, name.substr(11));
  std::stable_sort(lags.begin(), lags.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
  std::string text;
  for (const auto& [seconds, rank] : lags)
    text += cat(text.empty() ? "" : "  ", "rank ", rank, " ", format("%.3f s", seconds));
  return text;
}

void add_course(std::vector<std::string>& lines, const WatchedRun& run, const std::string& name,
                const std::string& key, std::string (*text_of)(double), const Canvas& canvas) {
  const std::vector<double> values = column(run.points, key);
  if (logged(values)) lines.push_back(quantity(name, text_of(last_finite(values)), values, canvas));
}

void add_loss(std::vector<std::string>& lines, const WatchedRun& run, const Canvas& canvas) {
  const std::vector<double> loss = losses(run.points);
  const double slow = run.points.back().number("loss_slow");
  lines.push_back(quantity("loss", format("%.4f", loss.back()), loss, canvas,
                           std::isfinite(slow) ? format(" (slow %.4f)", slow) : ""));
}

std::string unreadable_text(const WatchedRun& run) {
  return cat(run.unreadable, run.unreadable == 1 ? " unreadable line" : " unreadable lines");
}

std::string no_number_since(const std::vector<LogPoint>& points) {
  size_t first = points.size() - 1;
  while (first > 0 && !std::isfinite(points[first - 1].loss)) --first;
  return cat("WARNING: the loss is no number since step ", with_commas(points[first].step));
}

void add_details(std::vector<std::string>& lines, const WatchedRun& run, const Canvas& canvas) {
  const LogPoint& last = run.points.back();
  if (!std::isfinite(last.loss)) lines.push_back(cut(no_number_since(run.points), canvas.width));
  const auto add = [&](const std::string& name, const std::string& text) {
    if (text.empty()) return;
    const std::vector<std::string> parts = wrapped(text, canvas.width - kName);
    for (size_t i = 0; i < parts.size(); ++i)
      lines.push_back(cut(padded(i == 0 ? name : "", kName) + parts[i], canvas.width));
  };
  add("step sizes", parts_of(last, "step_size.", "%.2e"));
  add("decays", parts_of(last, "decay.", "%.4f"));
  add("late ranks", late_ranks(last));
  const double written = last_finite(column(run.points, "save_written_s"));
  if (std::isfinite(written)) add("checkpoint", cat("written in ", duration_text(written)));
  if (const double skipped = last.number("skipped"); skipped > 0)
    add("skipped", format("%.0f steps", skipped));
  if (const double left_out = last.number("documents_left_out"); left_out > 0)
    add("left out", format("%.0f damaged documents", left_out));
  if (const auto at = restarts(run.points); !at.empty())
    add("resumed",
        cat(at.size(), at.size() == 1 ? " time" : " times", ", last after step ", with_commas(at.back())));
  if (run.unreadable > 0) add("log", unreadable_text(run));
}

}  // namespace

std::string sparkline(const std::vector<double>& values, size_t width, Glyphs glyphs) {
  static const std::array<const char*, 8> blocks = {"\u2581", "\u2582", "\u2583", "\u2584",
                                                    "\u2585", "\u2586", "\u2587", "\u2588"};
  static const std::array<const char*, 8> ascii = {"_", ".", ":", "-", "=", "+", "*", "#"};
  const size_t columns = std::min(width, values.size());
  std::vector<double> means(columns, kNaN);
  for (size_t c = 0; c < columns; ++c) {
    double sum = 0;
    int64_t count = 0;
    for (size_t i = c * values.size() / columns; i < (c + 1) * values.size() / columns; ++i) {
      if (!std::isfinite(values[i])) continue;
      sum += values[i];
      count += 1;
    }
    if (count > 0) means[c] = sum / static_cast<double>(count);
  }
  double low = std::numeric_limits<double>::infinity(), high = -low;
  for (const double mean : means) {
    if (!std::isfinite(mean)) continue;
    low = std::min(low, mean);
    high = std::max(high, mean);
  }
  std::string line;
  for (const double mean : means) {
    const double share = high > low ? (mean - low) / (high - low) : 0;
    const auto level = std::isfinite(mean) ? static_cast<size_t>(std::lround(share * 7)) : 0;
    line += !std::isfinite(mean) ? " " : glyphs == Glyphs::kUnicode ? blocks.at(level) : ascii.at(level);
  }
  return line;
}

std::string duration_text(double seconds) {
  if (!std::isfinite(seconds)) return "-";
  const auto s = static_cast<int64_t>(std::llround(seconds));
  if (s < 60) return seconds < 9.95 ? format("%.1f s", seconds) : cat(s, " s");
  if (s < 3600) return format("%d min %02d s", static_cast<int>(s / 60), static_cast<int>(s % 60));
  if (s < 86400) return format("%d h %02d min", static_cast<int>(s / 3600), static_cast<int>(s / 60 % 60));
  return format("%d d %02d h", static_cast<int>(s / 86400), static_cast<int>(s / 3600 % 24));
}

std::vector<int64_t> restarts(const std::vector<LogPoint>& points) {
  std::vector<int64_t> steps;
  for (size_t i = 1; i < points.size(); ++i)
    if (points[i].number("time_s") < points[i - 1].number("time_s")) steps.push_back(points[i - 1].step);
  return steps;
}

double seconds_left(const WatchedRun& run) {
  if (run.points.empty() || run.total_steps <= 0) return kNaN;
  const LogPoint& last = run.points.back();
  const double tokens_per_step = last.tokens / static_cast<double>(last.step);
  const size_t recent = std::min(kRecent, run.points.size());
  const double speed =
      median(column({run.points.end() - static_cast<int64_t>(recent), run.points.end()}, "tokens_per_s"));
  return std::max(0.0, run.total_steps - static_cast<double>(last.step)) * tokens_per_step / speed;
}

std::vector<std::string> dashboard(const WatchedRun& run, size_t width, Glyphs glyphs) {
  const Canvas canvas{std::max<size_t>(20, width), glyphs};
  std::vector<std::string> lines = {title_line(run, canvas)};
  if (!run.begun || run.points.empty()) {
    lines.push_back(cut(run.begun ? "begun; waiting for the first log line" : "waiting for the run to begin",
                        canvas.width));
    if (run.unreadable > 0) lines.push_back(cut(unreadable_text(run), canvas.width));
    return lines;
  }
  lines.push_back(progress_line(run, canvas));
  lines.emplace_back();
  add_loss(lines, run, canvas);
  add_course(lines, run, "tokens/s", "tokens_per_s", short_number, canvas);
  add_course(
      lines, run, "gradient norm", "grad_norm", [](double v) { return format("%.3f", v); }, canvas);
  add_course(
      lines, run, "learning rate", "learning_rate", [](double v) { return format("%.2e", v); }, canvas);
  add_course(lines, run, "data wait", "data_wait", percent, canvas);
  add_course(lines, run, "communication", "communication", percent, canvas);
  add_course(lines, run, "peak memory", "peak_memory_bytes", bytes_text, canvas);
  add_details(lines, run, canvas);
  return lines;
}

}  // namespace fwl
