// `fwl report`: compares training runs, evaluations and scaling in a table, an HTML page, JSON and CSV.
#include "launch/report/report.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "launch/command.h"
#include "launch/report/reading.h"
#include "launch/report/tables.h"

namespace fwl {

namespace {

struct ReportOptions {
  std::vector<std::string> inputs;
  std::vector<std::string> evaluations;
  std::string title = "Fast Weight Layer: comparison";
  std::string html_path;
  std::string json_path;
};

// "report.html" -> "report".
std::filesystem::path stem_of(const std::string& html_path) {
  return std::filesystem::path(html_path).replace_extension();
}

// The tables first, so that a page never points to what is not there.
void write_page(const Report& report, const ReportOptions& options) {
  const std::filesystem::path stem = stem_of(options.html_path);
  std::vector<std::string> files;
  const auto write = [&](const std::string& ending, const std::string& content) {
    publish_file(stem.string() + ending, content);
    files.push_back(stem.filename().string() + ending);
  };
  for (const DataTable& table : data_tables(report)) write("." + table.name + ".csv", csv_of(table));
  write(".json", json_text(report_json(report), 2) + "\n");
  publish_file(options.html_path, report_html(report, files));
}

// Everything that is written: the page, its tables and the JSON beside it, --json.
std::vector<std::string> outputs_of(const Report& report, const ReportOptions& options) {
  std::vector<std::string> outputs;
  if (!options.json_path.empty()) outputs.push_back(options.json_path);
  if (options.html_path.empty()) return outputs;
  const std::string stem = stem_of(options.html_path).string();
  outputs.insert(outputs.end(), {options.html_path, stem + ".json"});
  for (const DataTable& table : data_tables(report)) outputs.push_back(cat(stem, ".", table.name, ".csv"));
  return outputs;
}

// The JSON beside `--out e.html` is e.json, which may be what the report is made of.
void keep_inputs(const Report& report, const ReportOptions& options) {
  std::vector<std::string> inputs;
  for (const EvalRow& row : report.rows) inputs.push_back(row.file);
  for (const std::string& input : options.inputs) inputs.push_back(split_label(input).value);
  for (const std::string& output : outputs_of(report, options))
    require_no_input("a file of the report", output, inputs);
}

void make_report(const ReportOptions& options) {
  require<ConfigError>(
      !options.inputs.empty() || !options.evaluations.empty(),
      "nothing to report on (neither a run nor an evaluation is named). Give RUN_DIR, EVAL.json or "
      "--eval.");
  Report report{options.title};
  for (const auto& evaluation : options.evaluations) report.rows.push_back(read_eval_row(evaluation));
  for (const auto& input : options.inputs) add_input(report, input);
  compare_with_baseline(report.rows);
  keep_inputs(report, options);
  if (!report.rows.empty()) std::fputs(plain_table(evaluation_table(report.rows)).c_str(), stdout);
  for (const std::string& caution : cautions_of(report)) std::printf("%s\n", caution.c_str());
  if (!options.html_path.empty()) write_page(report, options);
  write_json(options.json_path, report_json(report));
}

}  // namespace

void add_report_command(CLI::App& app) {
  auto options = std::make_shared<ReportOptions>();
  CLI::App* command = app.add_subcommand(
      "report", "Compare training runs, evaluations and scaling: a table, an HTML page, JSON, CSV");
  command
      ->add_option(
          "inputs", options->inputs,
          "run folders, results of `fwl eval --json` (all their modes), files with 'scaling' or 'plan'; "
          "each PATH or LABEL=PATH. The first run is what gaps are measured against, the first mode the "
          "baseline")
      ->type_name("RUN_OR_EVAL");
  command
      ->add_option("--eval", options->evaluations,
                   "a row of the table: LABEL=FILE.json:MODE, a result of `fwl eval --json`; repeat it for "
                   "more, the first is the baseline")
      ->type_name("ROW")
      ->allow_extra_args(false);
  command
      ->add_option(
          "--out", options->html_path,
          "write the page to this file (self-contained, no script, no network), and its tables beside it as "
          "CSV and JSON")
      ->type_name("FILE.html")
      ->check(file_in_a_folder());
  command->add_option("--title", options->title, "title of the page")->capture_default_str();
  add_json_option(*command, options->json_path);
  command->callback([options] { make_report(*options); });
}

}  // namespace fwl
