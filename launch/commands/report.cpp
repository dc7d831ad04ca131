// `fwl report`: compares training runs and evaluations in a table, an HTML page and a JSON file.
#include "launch/report/report.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/file.h"
#include "launch/command.h"

namespace fwl {

namespace {

struct ReportOptions {
  std::vector<std::string> runs;
  std::vector<std::string> evaluations;
  std::string title = "Fast Weight Layer: comparison";
  std::string html_path;
  std::string json_path;
};

void make_report(const ReportOptions& options) {
  require<ConfigError>(
      !options.runs.empty() || !options.evaluations.empty(),
      "nothing to report on (neither a run nor an evaluation is named). Give RUN_DIR or --eval.");
  Report report{options.title, {}, {}};
  for (const auto& run : options.runs) report.runs.push_back(read_run(run));
  for (const auto& evaluation : options.evaluations) report.rows.push_back(read_eval_row(evaluation));
  compare_with_baseline(report.rows);
  if (!report.rows.empty()) std::fputs(plain_table(evaluation_table(report.rows)).c_str(), stdout);
  if (!options.html_path.empty()) publish_file(options.html_path, report_html(report));
  write_json(options.json_path, report_json(report));
}

}  // namespace

void add_report_command(CLI::App& app) {
  auto options = std::make_shared<ReportOptions>();
  CLI::App* command =
      app.add_subcommand("report", "Compare training runs and evaluations: a table, an HTML page, JSON");
  command
      ->add_option("runs", options->runs,
                   "run folders, each DIR or LABEL=DIR; the first is the one the gaps are measured against")
      ->type_name("RUN_DIR");
  command
      ->add_option("--eval", options->evaluations,
                   "a row of the table: LABEL=FILE.json:MODE, a result of `fwl eval --json`; repeat it for "
                   "more, the first is the baseline")
      ->type_name("ROW")
      ->allow_extra_args(false);
  command
      ->add_option("--out", options->html_path,
                   "write the page to this file: self-contained, no script, no network")
      ->type_name("FILE.html");
  command->add_option("--title", options->title, "title of the page")->capture_default_str();
  add_json_option(*command, options->json_path);
  command->callback([options] { make_report(*options); });
}

}  // namespace fwl
