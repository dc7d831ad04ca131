#include "launch/report/report.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/file.h"
#include "launch/report/svg_chart.h"

namespace fwl {

namespace {

using nlohmann::json;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr int kChartPoints = 400;

struct Labelled {
  std::string label, value;
};

// Splits "LABEL=VALUE" at the first '='; without one the label is empty.
Labelled split_label(const std::string& argument) {
  const size_t at = argument.find('=');
  if (at == std::string::npos) return {"", argument};
  require<ConfigError>(at > 0, "'", argument,
                       "' has an empty label (rows and curves are told apart by it). Write LABEL=PATH.");
  return {argument.substr(0, at), argument.substr(at + 1)};
}

std::string last_part(const std::string& folder) {
  std::filesystem::path path = std::filesystem::path(folder).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  return path.filename().string();
}

// The number under `key`; NaN when it is absent or null (JSON has no NaN).
double optional_number(const json& object, const std::string& key, const std::string& where) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return kNaN;
  require<DataError>(found->is_number(), where, " has ", found->dump(), " for '", key,
                     "' (a number is needed). Write the file again with this version of fwl.");
  return found->get<double>();
}

double required_number(const json& object, const std::string& key, const std::string& where) {
  require<DataError>(object.contains(key), where, " has no '", key,
                     "' (the report needs it). Write the file again with this version of fwl.");
  return optional_number(object, key, where);
}

struct LogLine {
  LogPoint point;
  double tokens_per_s;
  double skipped;
};

LogLine parse_log_line(const json& object, const std::string& where) {
  require<DataError>(
      object.is_object(), where,
      " is no JSON object (each line is one logged step). Look for damage there, or train again.");
  const double step = required_number(object, "step", where);
  require<DataError>(std::isfinite(step) && step >= 0, where,
                     " has no usable 'step'. Look for damage there, or train again.");
  LogLine line;
  line.point = {static_cast<int64_t>(step), required_number(object, "tokens", where),
                required_number(object, "loss", where)};
  line.tokens_per_s = optional_number(object, "tokens_per_s", where);
  line.skipped = optional_number(object, "skipped", where);
  return line;
}

// Lines by step: the last one logged of each.
std::map<int64_t, LogLine> parse_log(const std::string& content, const std::string& path) {
  std::map<int64_t, LogLine> lines;
  int64_t number = 0;
  for (size_t begin = 0, end; begin < content.size(); begin = end + 1) {
    end = std::min(content.find('\n', begin), content.size());
    const std::string where = cat("line ", ++number, " of ", path);
    const std::string text = content.substr(begin, end - begin);
    if (text.find_first_not_of(" \t\r") == std::string::npos) continue;
    const json object = json::parse(text, nullptr, /*allow_exceptions=*/false);
    if (object.is_discarded() && end == content.size()) break;
    require<DataError>(!object.is_discarded(), where,
                       " is no JSON (each line is one logged step). Look for damage there, or train again.");
    const LogLine line = parse_log_line(object, where);
    lines.insert_or_assign(line.point.step, line);
  }
  return lines;
}

double median(std::vector<double> values) {
  if (values.empty()) return kNaN;
  const auto middle = values.begin() + static_cast<int64_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// The file's object of the mode; `path` names the file.
json read_mode(const std::string& path, const std::string& mode) {
  const json file = json::parse(read_file(path, "evaluation result"), nullptr, /*allow_exceptions=*/false);
  require<DataError>(file.is_object() && file.contains("modes") && file["modes"].is_object(), path,
                     " is no result of `fwl eval --json` (it needs an object 'modes'). Evaluate again, or "
                     "name another file.");
  std::string there;
  for (const auto& [name, values] : file["modes"].items()) there += (there.empty() ? "" : ", ") + name;
  require<ConfigError>(file["modes"].contains(mode), path, " holds no mode '", mode,
                       "' (a row shows one mode). Choose one of: ", there,
                       "; or evaluate again with --modes ", mode, ".");
  require<DataError>(file["modes"][mode].is_object(), path, ": mode '", mode,
                     "' is no JSON object (it should hold nats_per_token and others). Evaluate again.");
  return file["modes"][mode];
}

json number_or_null(double value) {
  return std::isfinite(value) ? json(value) : json(nullptr);
}

json numbers(const std::vector<double>& values) {
  json array = json::array();
  for (const double value : values) array.push_back(number_or_null(value));
  return array;
}

json json_of(const LoggedRun& run) {
  std::vector<double> tokens, loss;
  json steps = json::array();
  for (const LogPoint& point : run.points) {
    steps.push_back(point.step);
    tokens.push_back(point.tokens);
    loss.push_back(point.loss);
  }
  return {{"label", run.label},        {"folder", run.folder},
          {"skipped", run.skipped},    {"step", steps},
          {"tokens", numbers(tokens)}, {"tokens_per_s", number_or_null(run.tokens_per_s)},
          {"loss", numbers(loss)}};
}

json json_of(const EvalRow& row) {
  return {{"label", row.label},
          {"mode", row.mode},
          {"nats_per_token", number_or_null(row.nats_per_token)},
          {"change_percent", number_or_null(row.change_percent)},
          {"perplexity", number_or_null(row.perplexity)},
          {"bits_per_byte", number_or_null(row.bits_per_byte)},
          {"tokens", number_or_null(row.tokens)},
          {"tokens_per_s", number_or_null(row.tokens_per_s)},
          {"relative_time", number_or_null(row.relative_time)},
          {"time_to_baseline", number_or_null(row.time_to_baseline)},
          {"peak_memory_bytes", number_or_null(row.peak_memory_bytes)}};
}

std::vector<GapCurve> gaps(const std::vector<LoggedRun>& runs) {
  std::vector<GapCurve> curves;
  for (size_t i = 1; i < runs.size(); ++i) curves.push_back(gap_between(runs.front(), runs[i]));
  return curves;
}

// Half the width of the smoothing window: 1/60 of the points, at least one neighbour when there are some.
int smoothing_reach(size_t points) {
  return points < 10 ? 0 : std::max<int>(1, static_cast<int>(points / 60));
}

Series smoothed(const std::string& label, const std::vector<double>& x, const std::vector<double>& y,
                size_t look) {
  return thin({label, x, smooth(y, smoothing_reach(y.size())), look}, kChartPoints);
}

std::string smoothing_note(size_t points) {
  const int reach = smoothing_reach(points);
  return reach == 0 ? "Each logged step as it is."
                    : cat("Each point is the mean over ", 2 * reach + 1, " logged steps.");
}

LineChart loss_chart(const std::vector<LoggedRun>& runs) {
  LineChart chart{
      "Training loss over training tokens", "training tokens", "training loss, nats per token", "", {}};
  size_t most_points = 0;
  for (const LoggedRun& run : runs) {
    std::vector<double> tokens, loss;
    for (const LogPoint& point : run.points) {
      tokens.push_back(point.tokens);
      loss.push_back(point.loss);
    }
    most_points = std::max(most_points, tokens.size());
    chart.series.push_back(smoothed(run.label, tokens, loss, chart.series.size()));
  }
  chart.caption = smoothing_note(most_points);
  return chart;
}

LineChart gap_chart(const std::vector<GapCurve>& curves) {
  LineChart chart{cat("Gap of training loss to ", curves.front().against, " over training tokens"),
                  "training tokens",
                  cat("gap to ", curves.front().against, ", %"),
                  "",
                  {}};
  size_t most_points = 0;
  for (const GapCurve& curve : curves) {
    most_points = std::max(most_points, curve.tokens.size());
    // The first run is the zero line here; the others keep the look they have among the learning curves.
    chart.series.push_back(smoothed(curve.label, curve.tokens, curve.percent, chart.series.size() + 1));
  }
  chart.caption = cat("Below zero: a lower loss than ", curves.front().against,
                      " at the same step, on the same batch. ", smoothing_note(most_points));
  return chart;
}

TextTable run_table(const std::vector<LoggedRun>& runs) {
  TextTable table{{"run", "last step", "tokens", "loss at the end", "tokens/s", "skipped steps"}, {}};
  for (const LoggedRun& run : runs) {
    const LogPoint last = run.points.empty() ? LogPoint{0, 0, kNaN} : run.points.back();
    table.rows.push_back({run.label, cat(last.step), short_number(last.tokens), fixed(last.loss, 3),
                          short_number(run.tokens_per_s), cat(run.skipped)});
  }
  return table;
}

// Says in one sentence what the best row is worth; empty when there is nothing to compare.
std::string summary(const std::vector<EvalRow>& rows) {
  if (rows.size() < 2) return "";
  const auto best = std::min_element(rows.begin(), rows.end(), [](const EvalRow& a, const EvalRow& b) {
    return a.nats_per_token < b.nats_per_token;
  });
  if (best == rows.begin()) return cat("No row is better than the baseline, ", rows.front().label, ".");
  return cat("Lowest: ", best->label, " with ", fixed(best->nats_per_token, 4), " nats per token, ",
             signed_percent(best->change_percent), " against ", rows.front().label, ".");
}

bool same_tokens(const std::vector<EvalRow>& rows) {
  return std::all_of(rows.begin(), rows.end(),
                     [&](const EvalRow& row) { return row.tokens == rows.front().tokens; });
}

std::string evaluation_note(const std::vector<EvalRow>& rows) {
  std::string note = cat("Held-out text, ", short_number(rows.front().tokens),
                         " tokens, every token predicted from those before it.",
                         " Change: nats per token against the first row; less is better. Time per token "
                         "relative to the first row.");
  if (!same_tokens(rows))
    note += " Caution: the rows were measured on different numbers of tokens and do not compare.";
  return note;
}

std::string paragraph(const std::string& text) {
  return text.empty() ? "" : cat("<p>", escape_html(text), "</p>\n");
}

std::string gap_section(const std::vector<GapCurve>& curves) {
  return cat(
      "<h2>The gap while training</h2>\n", html_figure(gap_chart(curves)),
      paragraph(
          "Short runs flatter the layer: early in training it stands in for what attention has not learned "
          "yet, and with attention over the whole context the gap shrinks as training goes on. Read where "
          "the curve is "
          "heading, not only where it ends."));
}

}  // namespace

LoggedRun read_run(const std::string& run) {
  const Labelled parts = split_label(run);
  require<ConfigError>(!parts.value.empty(), "'", run,
                       "' names no run folder (its log.jsonl is read). Write DIR or LABEL=DIR.");
  const std::string path = parts.value + "/log.jsonl";
  LoggedRun log{parts.label.empty() ? last_part(parts.value) : parts.label, parts.value, {}, 0, kNaN};
  std::vector<double> speeds;
  for (const auto& [step, line] : parse_log(read_file(path, "training log"), path)) {
    if (std::isfinite(line.skipped)) log.skipped = static_cast<int64_t>(line.skipped);
    if (std::isfinite(line.tokens_per_s)) speeds.push_back(line.tokens_per_s);
    if (std::isfinite(line.point.loss) && std::isfinite(line.point.tokens)) log.points.push_back(line.point);
  }
  log.tokens_per_s = median(speeds);
  return log;
}

EvalRow read_eval_row(const std::string& argument) {
  const auto [label, file_and_mode] = split_label(argument);
  const size_t colon = file_and_mode.rfind(':');
  require<ConfigError>(
      !label.empty() && colon != std::string::npos && colon > 0 && colon + 1 < file_and_mode.size(), "'",
      argument, "' is no evaluation row (label, file and mode are needed). Write LABEL=FILE.json:MODE.");
  const std::string path = file_and_mode.substr(0, colon), mode = file_and_mode.substr(colon + 1);
  const json values = read_mode(path, mode);
  const std::string where = cat(path, ", mode '", mode, "',");
  EvalRow row{label, mode};
  row.nats_per_token = required_number(values, "nats_per_token", where);
  row.tokens = required_number(values, "tokens", where);
  row.perplexity = optional_number(values, "perplexity", where);
  row.bits_per_byte = optional_number(values, "bits_per_byte", where);
  row.tokens_per_s = optional_number(values, "tokens_per_s", where);
  row.relative_time = optional_number(values, "relative_time", where);
  row.peak_memory_bytes = optional_number(values, "peak_memory_bytes", where);
  return row;
}

void compare_with_baseline(std::vector<EvalRow>& rows) {
  for (EvalRow& row : rows) {
    row.change_percent = 100 * (row.nats_per_token / rows.front().nats_per_token - 1);
    row.time_to_baseline = rows.front().tokens_per_s / row.tokens_per_s;
  }
}

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

TextTable evaluation_table(const std::vector<EvalRow>& rows) {
  TextTable table{{"model and mode", "nats/token", "change", "perplexity", "bits/byte", "tokens/s", "time",
                   "peak memory"},
                  {}};
  for (const EvalRow& row : rows) {
    const bool baseline = &row == &rows.front();
    table.rows.push_back(
        {row.label, fixed(row.nats_per_token, 4), baseline ? "baseline" : signed_percent(row.change_percent),
         fixed(row.perplexity, 2), fixed(row.bits_per_byte, 4), short_number(row.tokens_per_s),
         cat(fixed(row.time_to_baseline, 2), std::isfinite(row.time_to_baseline) ? "x" : ""),
         cat(short_number(row.peak_memory_bytes), std::isfinite(row.peak_memory_bytes) ? "B" : "")});
  }
  return table;
}

std::string report_html(const Report& report) {
  std::string body;
  if (!report.rows.empty()) {
    body += paragraph(summary(report.rows)) + "<h2>On held-out text</h2>\n";
    body += html_table(evaluation_table(report.rows), evaluation_note(report.rows));
  }
  if (!report.runs.empty()) {
    body += cat("<h2>Learning curves</h2>\n", html_figure(loss_chart(report.runs)),
                html_table(run_table(report.runs), ""));
  }
  if (report.runs.size() > 1) body += gap_section(gaps(report.runs));
  return html_page(report.title, body);
}

json report_json(const Report& report) {
  json result = {{"title", report.title},
                 {"evaluation", json::array()},
                 {"runs", json::array()},
                 {"gaps", json::array()}};
  for (const EvalRow& row : report.rows) result["evaluation"].push_back(json_of(row));
  for (const LoggedRun& run : report.runs) result["runs"].push_back(json_of(run));
  for (const GapCurve& gap : gaps(report.runs)) {
    result["gaps"].push_back({{"label", gap.label},
                              {"against", gap.against},
                              {"step", gap.step},
                              {"tokens", numbers(gap.tokens)},
                              {"percent", numbers(gap.percent)}});
  }
  return result;
}

}  // namespace fwl
