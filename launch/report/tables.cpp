#include "launch/report/tables.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "core/base/json_number.h"
#include "launch/report/reading.h"

namespace fwl {
namespace {

using nlohmann::json;

DataTable evaluation_data(const std::vector<EvalRow>& rows) {
  DataTable table{"evaluation",
                  {"label",
                   "mode",
                   "file",
                   "tokens",
                   "nats_per_token",
                   "nats_low",
                   "nats_high",
                   "change_percent",
                   "change_low",
                   "change_high",
                   "perplexity",
                   "word_perplexity",
                   "bits_per_byte",
                   "tokens_per_s",
                   "time_to_baseline",
                   "time_spread",
                   "relative_time",
                   "relative_flops",
                   "peak_memory_bytes",
                   "time_is_apart",
                   "time_is_disturbed",
                   "tokenizer"},
                  {}};
  for (const EvalRow& r : rows) {
    std::vector<json> cells = {r.label, r.mode, r.file};
    for (const double value :
         {r.tokens, r.nats_per_token, r.nats_low, r.nats_high, r.change_percent, r.change_low, r.change_high,
          r.perplexity, r.word_perplexity, r.bits_per_byte, r.tokens_per_s, r.time_to_baseline, r.time_spread,
          r.relative_time, r.relative_flops, r.peak_memory_bytes})
      cells.push_back(number_or_null(value));
    cells.insert(cells.end(), {json(r.time_is_apart), json(r.is_disturbed),
                               r.tokenizer.empty() ? json() : json(r.tokenizer)});
    table.rows.push_back(cells);
  }
  return table;
}

DataTable breakdown_data(const std::vector<EvalRow>& rows) {
  DataTable table{
      "breakdowns", {"label", "mode", "by", "low", "high", "tokens", "nats", "nats_per_token"}, {}};
  for (const EvalRow& row : rows)
    for (const auto& [by, bins] : row.breakdowns)
      for (const LossBin& bin : bins)
        table.rows.push_back({row.label, row.mode, by, bin.low, bin.high, bin.tokens, bin.nats,
                              number_or_null(bin.nats_per_token())});
  return table;
}

DataTable learning_data(const std::vector<LoggedRun>& runs) {
  std::set<std::string> names;
  for (const LoggedRun& run : runs)
    for (const LogPoint& point : run.points)
      for (const auto& [name, value] : point.numbers) names.insert(name);
  DataTable table{"learning_curves", {"run", "step", "tokens", "loss"}, {}};
  table.columns.insert(table.columns.end(), names.begin(), names.end());
  for (const LoggedRun& run : runs) {
    for (const LogPoint& point : run.points) {
      std::vector<json> cells = {run.label, point.step, number_or_null(point.tokens),
                                 number_or_null(point.loss)};
      for (const std::string& name : names) cells.push_back(number_or_null(point.number(name)));
      table.rows.push_back(cells);
    }
  }
  return table;
}

DataTable gap_data(const std::vector<LoggedRun>& runs) {
  DataTable table{"gaps", {"run", "against", "step", "tokens", "percent"}, {}};
  for (const GapCurve& gap : gaps(runs))
    for (size_t i = 0; i < gap.step.size(); ++i)
      table.rows.push_back({gap.label, gap.against, gap.step[i], number_or_null(gap.tokens[i]),
                            number_or_null(gap.percent[i])});
  return table;
}

DataTable scaling_data(const std::vector<ScalingRow>& rows) {
  DataTable table{"scaling",
                  {"model", "kind", "layout", "gpus", "context", "tokens_per_s", "efficiency", "predicted"},
                  {}};
  for (const ScalingRow& r : rows)
    table.rows.push_back({r.model, r.kind, r.layout, r.gpus, number_or_null(r.context), r.tokens_per_s,
                          number_or_null(r.efficiency), r.predicted});
  return table;
}

std::string csv_cell(const json& cell) {
  if (cell.is_null()) return "";
  if (!cell.is_string()) return cell.dump();
  const std::string text = cell.get<std::string>();
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted += c == '"' ? "\"\"" : std::string(1, c);
  return quoted + "\"";
}

template <typename Cells>
std::string csv_row(const Cells& cells) {
  std::string row;
  for (size_t i = 0; i < cells.size(); ++i) row += (i == 0 ? "" : ",") + csv_cell(cells[i]);
  return row + "\r\n";
}

}  // namespace

std::vector<DataTable> data_tables(const Report& report) {
  std::vector<DataTable> tables = {evaluation_data(report.rows), breakdown_data(report.rows),
                                   learning_data(report.runs), gap_data(report.runs),
                                   scaling_data(report.scaling)};
  tables.erase(
      std::remove_if(tables.begin(), tables.end(), [](const DataTable& t) { return t.rows.empty(); }),
      tables.end());
  return tables;
}

std::string csv_of(const DataTable& table) {
  std::string text = csv_row(table.columns);
  for (const auto& row : table.rows) text += csv_row(row);
  return text;
}

}  // namespace fwl
