#include "launch/report/scaling.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <set>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "launch/report/reading.h"

namespace fwl {
namespace {

using nlohmann::json;

constexpr const char* kPredicted = ", predicted";

struct Kind {
  const char* name;
  const char* title;
  const char* meaning;
};
constexpr std::array<Kind, 3> kKinds = {
    Kind{"weak", "Weak scaling", "The work grows with the GPUs: the same tokens per GPU."},
    Kind{"strong", "Strong scaling", "The same work on more GPUs."},
    Kind{"sequence", "Sequence scaling", "GPUs share sequences: longer ones, or the same ones sooner."}};

ScalingRow read_row(const json& object, const std::string& where) {
  require<DataError>(object.is_object(), where, " is no JSON object. Write the file again.");
  ScalingRow row;
  row.layout = optional_text(object, "layout", "", where);
  row.gpus = required_number(object, "gpus", where);
  row.model = optional_text(object, "model", "", where);
  row.context = optional_number(object, "context", where);
  row.tokens_per_s = required_number(object, "tokens_per_s", where);
  row.efficiency = optional_number(object, "efficiency", where);
  row.kind = optional_text(object, "kind", "weak", where);
  require<DataError>(row.gpus >= 1 && row.tokens_per_s > 0, where, " has ", row.gpus, " GPUs and ",
                     row.tokens_per_s, " tokens/s (both must be positive). Write the file again.");
  require<DataError>(
      std::any_of(kKinds.begin(), kKinds.end(), [&](const Kind& k) { return row.kind == k.name; }), where,
      " has the kind '", row.kind, "'. Choose among weak, strong, sequence.");
  return row;
}

// Over which axis the ranks of a row's layout "DxS" are spread; empty where it is not said, one rank, or any.
std::string axis_of(const ScalingRow& row) {
  const std::string layout = row.best_layout ? "" : row.layout;
  const size_t at = layout.find('x');
  if (at == std::string::npos) return "";
  const std::string data = layout.substr(0, at), sequence = layout.substr(at + 1);
  if (data == "1" && sequence == "1") return "";
  return data == "1" ? "sequence" : sequence == "1" ? "data" : "data x sequence";
}

// What a line of a figure joins.
std::string line_of(const ScalingRow& row, const std::string& axis) {
  std::string name = row.model.empty() ? "model" : row.model;
  if (std::isfinite(row.context) && row.kind != "sequence")
    name += cat(", ", static_cast<int64_t>(row.context), " tokens");
  if (!axis.empty() && row.kind != "sequence") name += ", " + axis;
  return name + (row.predicted ? kPredicted : "");
}

struct Line {
  std::string name;
  std::vector<const ScalingRow*> rows;  // by GPUs
};

// A row of one GPU belongs to the lines of every axis.
bool is_of_every_axis(const ScalingRow& row) {
  return row.gpus == 1 && !row.best_layout && axis_of(row).empty();
}

std::vector<Line> lines_of(const std::vector<ScalingRow>& rows, const std::string& kind) {
  std::map<std::string, std::vector<const ScalingRow*>> lines;
  std::vector<std::string> order;
  for (const ScalingRow& row : rows) {
    if (row.kind != kind || is_of_every_axis(row)) continue;
    const std::string name = line_of(row, axis_of(row));
    if (lines[name].empty()) order.push_back(name);
    lines[name].push_back(&row);
  }
  for (const ScalingRow& row : rows) {
    if (row.kind != kind || !is_of_every_axis(row)) continue;
    bool joined = false;
    for (const char* axis : {"", "data", "sequence", "data x sequence"}) {
      const auto found = lines.find(line_of(row, axis));
      if (found == lines.end() || found->second.front()->gpus == 1) continue;
      found->second.insert(found->second.begin(), &row);
      joined = true;
    }
    if (joined) continue;
    order.push_back(line_of(row, ""));
    lines[order.back()].push_back(&row);
  }
  std::vector<Line> result;
  for (const std::string& name : order) {
    auto& members = lines[name];
    std::stable_sort(members.begin(), members.end(),
                     [](const ScalingRow* a, const ScalingRow* b) { return a->gpus < b->gpus; });
    result.push_back({name, members});
  }
  return result;
}

double efficiency_of(const ScalingRow& row, const ScalingRow& first) {
  if (std::isfinite(row.efficiency)) return row.efficiency;
  return (row.tokens_per_s / row.gpus) / (first.tokens_per_s / first.gpus);
}

void fill_efficiencies(std::vector<ScalingRow>& rows) {
  std::map<const ScalingRow*, double> found;
  for (const Kind& kind : kKinds)
    for (const Line& line : lines_of(rows, kind.name))
      for (const ScalingRow* row : line.rows) found.emplace(row, efficiency_of(*row, *line.rows.front()));
  for (ScalingRow& row : rows)
    if (const auto value = found.find(&row); value != found.end()) row.efficiency = value->second;
}

std::string title_of(const ScalingRow& row, const std::string& line) {
  return cat(line, row.layout.empty() ? "" : " (" + row.layout + ")", ": ", static_cast<int64_t>(row.gpus),
             " GPUs, ", short_number(row.tokens_per_s), " tokens/s, ", fixed(100 * row.efficiency, 1), " %");
}

Series series_of(const Line& line, size_t look, bool of_speed) {
  Series series{line.name, {}, {}, look_of(look)};
  if (line.rows.back()->predicted) series.look.dashes = 1;
  for (const ScalingRow* row : line.rows) {
    series.x.push_back(row->gpus);
    series.y.push_back(of_speed ? row->tokens_per_s : 100 * row->efficiency);
    series.titles.push_back(title_of(*row, line.name));
  }
  return series;
}

Axis gpu_axis(const std::vector<Line>& lines) {
  std::set<double> counts;
  for (const Line& line : lines)
    for (const ScalingRow* row : line.rows) counts.insert(row->gpus);
  Axis axis{"GPUs", ScaleKind::kLogarithmic};
  for (const double count : counts) axis.ticks.push_back({count, compact_number(count)});
  return axis;
}

// What as many times the speed of the first as there are GPUs would be.
Series ideal(const Line& line, size_t look) {
  const ScalingRow& first = *line.rows.front();
  const double last = line.rows.back()->gpus;
  Series series{"ideal",
                {first.gpus, last},
                {first.tokens_per_s, first.tokens_per_s / first.gpus * last},
                look_of(look)};
  series.look.dashes = 2;
  return series;
}

void add_charts(const std::vector<Line>& lines, const Kind& kind, std::vector<Chart>& charts) {
  Chart speed{cat(kind.title, ": tokens per second"),
              cat(kind.title, ": tokens per second over the number of GPUs"),
              gpu_axis(lines),
              {"tokens per second", ScaleKind::kLogarithmic}};
  Chart efficiency{cat(kind.title, ": efficiency"),
                   cat(kind.title, ": efficiency over the number of GPUs"),
                   gpu_axis(lines),
                   {"efficiency, %"}};
  efficiency.y.low = 0;
  std::vector<std::string> colours;  // what is predicted has the colour of what is measured
  for (const Line& line : lines) {
    const ScalingRow& last = *line.rows.back();
    std::string name = line.name;
    if (last.predicted) name.resize(name.size() - std::string(kPredicted).size());
    const auto found = std::find(colours.begin(), colours.end(), name);
    const auto look = static_cast<size_t>(found - colours.begin());
    if (found == colours.end()) colours.push_back(name);
    speed.series.push_back(series_of(line, look, true));
    efficiency.series.push_back(series_of(line, look, false));
  }
  if (lines.size() == 1 && lines.front().rows.size() > 1) speed.series.push_back(ideal(lines.front(), 5));
  speed.caption = kind.meaning;
  efficiency.caption = "100 %: as many times the speed of the first row as there are GPUs.";
  for (Chart* chart : {&speed, &efficiency}) {
    chart->size = ChartSize::kHalf;
    charts.push_back(std::move(*chart));
  }
}

}  // namespace

std::vector<ScalingRow> read_scaling(const std::string& argument) {
  const std::string path = split_label(argument).value;
  const json file = parse_json(read_file(path, "scaling result"));
  require<DataError>(file.is_object() && (file.contains("scaling") || file.contains("plan")), path,
                     " holds neither 'scaling' nor 'plan' (arrays of rows). Name another file.");
  std::vector<ScalingRow> rows;
  // `fwl plan --json` has one object "plan": its curves are predicted.
  const bool is_plan = file.contains("plan") && file["plan"].is_object();
  for (const char* key : {"scaling", "plan"}) {
    if (!file.contains(key) || file[key].is_object()) continue;
    require<DataError>(file[key].is_array(), path, ": '", key, "' is no array. Write the file again.");
    for (size_t i = 0; i < file[key].size(); ++i) {
      rows.push_back(read_row(file[key][i], cat(path, ", ", key, "[", i, "]")));
      rows.back().predicted = is_plan || std::string(key) == "plan";
      rows.back().best_layout = is_plan;
    }
  }
  fill_efficiencies(rows);
  return rows;
}

std::vector<Chart> scaling_charts(const std::vector<ScalingRow>& rows) {
  std::vector<Chart> charts;
  for (const Kind& kind : kKinds) {
    const std::vector<Line> lines = lines_of(rows, kind.name);
    if (!lines.empty()) add_charts(lines, kind, charts);
  }
  return charts;
}

TextTable scaling_table(const std::vector<ScalingRow>& rows) {
  TextTable table{{"model", "kind", "layout", "GPUs", "context", "tokens/s", "efficiency"}, {}};
  for (const ScalingRow& row : rows) {
    table.rows.push_back({row.model + (row.predicted ? ", predicted" : ""), row.kind, row.layout,
                          compact_number(row.gpus),
                          std::isfinite(row.context) ? cat(static_cast<int64_t>(row.context)) : "\u2013",
                          short_number(row.tokens_per_s), cat(fixed(100 * row.efficiency, 1), " %")});
  }
  return table;
}

}  // namespace fwl
