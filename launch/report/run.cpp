#include "launch/report/run.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/median.h"
#include "launch/report/reading.h"

namespace fwl {
namespace {

using nlohmann::json;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

void collect_numbers(const std::string& name, const json& value, std::map<std::string, double>& numbers) {
  if (value.is_number()) numbers[name] = value.get<double>();
  if (value.is_object())
    for (const auto& [key, part] : value.items()) collect_numbers(name + "." + key, part, numbers);
  if (value.is_array())
    for (size_t i = 0; i < value.size(); ++i) collect_numbers(cat(name, ".", i), value[i], numbers);
}

LogPoint to_point(const json& object, const std::string& where) {
  require<DataError>(
      object.is_object(), where,
      " is no JSON object (each line is one logged step). Look for damage there, or train again.");
  const double step = required_number(object, "step", where);
  require<DataError>(std::isfinite(step) && step >= 0, where,
                     " has no usable 'step'. Look for damage there, or train again.");
  LogPoint point{static_cast<int64_t>(step), required_number(object, "tokens", where),
                 required_number(object, "loss", where)};
  for (const auto& [key, value] : object.items())
    if (key != "step" && key != "tokens" && key != "loss") collect_numbers(key, value, point.numbers);
  return point;
}

// Points by step: the last one logged of each.
std::map<int64_t, LogPoint> parse_log(const std::string& content, const std::string& path) {
  std::map<int64_t, LogPoint> points;
  int64_t number = 0;
  for (size_t begin = 0, end; begin < content.size(); begin = end + 1) {
    end = std::min(content.find('\n', begin), content.size());
    const std::string where = cat("line ", ++number, " of ", path);
    const std::string text = content.substr(begin, end - begin);
    if (text.find_first_not_of(" \t\r") == std::string::npos) continue;
    if (end == content.size() && parse_json(text).is_discarded()) break;
    if (!end_in(text).empty()) continue;
    LogPoint point = parse_log_line(text, where);
    points.insert_or_assign(point.step, std::move(point));
  }
  return points;
}

}  // namespace

double LogPoint::number(const std::string& name) const {
  const auto found = numbers.find(name);
  return found == numbers.end() ? kNaN : found->second;
}

std::string end_in(const std::string& line) {
  if (line.find("\"ended\"") == std::string::npos) return {};
  const json object = parse_json(line);
  const auto text = [&](const char* key) {
    return object.is_object() && object.contains(key) && object[key].is_string()
               ? object[key].get<std::string>()
               : std::string();
  };
  return text("ended").empty() || text("why").empty() ? text("ended") : text("ended") + ": " + text("why");
}

LogPoint parse_log_line(const std::string& line, const std::string& where) {
  const json object = parse_json(line);
  require<DataError>(!object.is_discarded(), where,
                     " is no JSON (each line is one logged step). Look for damage there, or train again.");
  return to_point(object, where);
}

LoggedRun read_run(const std::string& run) {
  const Labelled parts = split_label(run);
  require<ConfigError>(!parts.value.empty(), "'", run,
                       "' names no run folder (its log.jsonl is read). Write DIR or LABEL=DIR.");
  const std::string path = parts.value + "/log.jsonl";
  LoggedRun log{parts.label.empty() ? name_of_path(parts.value) : parts.label, parts.value, {}, 0, kNaN};
  std::vector<double> speeds;
  for (auto& [step, point] : parse_log(read_file(path, "training log"), path)) {
    if (std::isfinite(point.number("skipped"))) log.skipped = static_cast<int64_t>(point.number("skipped"));
    if (std::isfinite(point.number("tokens_per_s"))) speeds.push_back(point.number("tokens_per_s"));
    if (std::isfinite(point.loss) && std::isfinite(point.tokens)) log.points.push_back(std::move(point));
  }
  log.tokens_per_s = median(speeds);
  return log;
}

}  // namespace fwl
