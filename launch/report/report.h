// The report of a comparison: training logs of some runs, evaluation results and scaling measurements, as a
// table for the terminal, as one HTML page with charts, and as JSON and CSV with all the numbers. The first
// evaluation row is the baseline that the others are compared with; the first run is the one that the gaps
// are measured against.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "launch/report/evaluation.h"
#include "launch/report/figures.h"
#include "launch/report/run.h"
#include "launch/report/scaling.h"

namespace fwl {

struct Report {
  std::string title;
  std::vector<LoggedRun> runs = {};
  std::vector<EvalRow> rows = {};
  std::vector<ScalingRow> scaling = {};
};

// Adds what the argument names ("PATH" or "LABEL=PATH"): a run's folder, a result of `fwl eval --json` with
// all its modes, or a JSON file with "scaling" or "plan". Throws DataError and ConfigError.
void add_input(Report& report, const std::string& argument);

// What a reader must know before comparing what the report shows, in sentences. Empty: nothing.
std::vector<std::string> cautions_of(const Report& report);

// `files`: names of tables that lie beside the page, for links to them.
std::string report_html(const Report& report, const std::vector<std::string>& files = {});
nlohmann::json report_json(const Report& report);

}  // namespace fwl
