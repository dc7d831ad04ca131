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

struct Output {
  std::string path, content;
  std::string first_column;  // of a table, by which one of a report is known
};

// What lies beside the page, its tables and the JSON: named after it, not by the user. Nothing without a
// page.
std::vector<Output> files_beside(const Report& report, const ReportOptions& options) {
  if (options.html_path.empty()) return {};
  const std::string stem = stem_of(options.html_path).string();
  std::vector<Output> files;
  for (const DataTable& table : data_tables(report)) {
    const std::string csv = csv_of(table);
    files.push_back({cat(stem, ".", table.name, ".csv"), csv, csv.substr(0, csv.find(','))});
  }
  files.push_back({stem + ".json", json_text(report_json(report), 2) + "\n", ""});
  return files;
}

// The tables first, so that a page never points to what is not there.
void write_page(const Report& report, const ReportOptions& options, const std::vector<Output>& beside) {
  std::vector<std::string> names;
  for (const Output& file : beside) {
    publish_file(file.path, file.content);
    names.push_back(std::filesystem::path(file.path).filename().string());
  }
  publish_file(options.html_path, report_html(report, names));
}

// Whether what lies there is what an earlier report has written.
bool is_of_a_report(const Output& file) {
  try {
    const std::string content = read_file(file.path, "file beside the page");
    if (!file.first_column.empty()) return content.starts_with(file.first_column + ",");
    const nlohmann::json there = parse_json(content);
    return there.is_object() && there.contains("evaluation") && there.contains("gaps");
  } catch (const Error&) {
    return false;
  }
}

// `--out e.html` writes e.json too, which may be an evaluation, or part of something else.
void keep_files_beside(const ReportOptions& options, const std::vector<Output>& beside) {
  for (const Output& file : beside) {
    require_output_file(file.path);
    require<ConfigError>(!std::filesystem::exists(file.path) || is_of_a_report(file), "--out ",
                         options.html_path, " would replace '", file.path,
                         "', which no report has written. Choose another name for the page.");
  }
}

// The JSON beside `--out e.html` is e.json, which may be what the report is made of.
void keep_inputs(const Report& report, const ReportOptions& options, const std::vector<Output>& beside) {
  std::vector<std::string> inputs;
  for (const EvalRow& row : report.rows) inputs.push_back(row.file);
  for (const std::string& input : options.inputs) inputs.push_back(split_label(input).value);
  std::vector<std::string> outputs = {options.html_path, options.json_path};
  for (const Output& file : beside) outputs.push_back(file.path);
  for (const std::string& output : outputs) require_no_input("a file of the report", output, inputs);
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
  require_comparable(report.rows);
  const std::vector<Output> beside = files_beside(report, options);
  keep_inputs(report, options, beside);
  keep_files_beside(options, beside);
  if (!report.rows.empty()) std::fputs(plain_table(evaluation_table(report.rows)).c_str(), stdout);
  for (const std::string& caution : cautions_of(report)) std::printf("%s\n", caution.c_str());
  if (!options.html_path.empty()) write_page(report, options, beside);
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
          "baseline. Modes of several tokenizers are compared by bits per byte")
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
      ->check(file_in_a_folder())
      ->check([](const std::string& path) {
        const bool is_page = path.ends_with(".html");
        return std::string(is_page ? ""
                                   : "its name must end with .html (files beside it are named after it)");
      });
  command->add_option("--title", options->title, "title of the page")->capture_default_str();
  add_json_option(*command, options->json_path);
  command->callback([options] { make_report(*options); });
}

}  // namespace fwl
