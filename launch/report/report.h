// The report of a comparison: training logs of some runs and evaluation results, as a table for the terminal,
// as one HTML page with charts, and as JSON with all the numbers. The first evaluation row is the baseline
// that the others are compared with; the first run is the one that the gaps are measured against.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "launch/report/page.h"

namespace fwl {

struct LogPoint {
  int64_t step = 0;
  double tokens = 0;  // trained on so far
  double loss = 0;    // nats per token, mean since the logged step before
};

struct LoggedRun {
  std::string label;
  std::string folder;
  std::vector<LogPoint> points;  // ascending steps, each once
  int64_t skipped = 0;           // steps that were skipped
  double tokens_per_s = 0;       // median of the logged ones; NaN when none is logged
};

// One mode of one evaluated model. Quantities that the evaluation did not write are NaN.
struct EvalRow {
  std::string label;
  std::string mode;
  double nats_per_token = 0;
  double perplexity = 0;
  double bits_per_byte = 0;
  double tokens = 0;
  double tokens_per_s = 0;
  double relative_time = 0;  // to the static pass of the same model, as the evaluation measured it
  double peak_memory_bytes = 0;
  double change_percent = 0;    // of nats per token against the baseline row; negative is better
  double time_to_baseline = 0;  // per token, by tokens_per_s, relative to the baseline row
};

// By how much a run's loss lies above (+) or below (-) another's at the same steps, so on the same batches.
struct GapCurve {
  std::string label;
  std::string against;
  std::vector<int64_t> step;
  std::vector<double> tokens;
  std::vector<double> percent;
};

struct Report {
  std::string title;
  std::vector<LoggedRun> runs;
  std::vector<EvalRow> rows;
};

// Reads FOLDER/log.jsonl. `run` is FOLDER (the label is its last part) or LABEL=FOLDER. A step that is logged
// twice (a resumed run) counts as logged last; a last line that a killed run left unfinished, and points
// whose loss is no number (skipped steps), are left out. Throws DataError (path, line) and ConfigError (empty
// label or folder).
LoggedRun read_run(const std::string& run);
// Reads "LABEL=FILE.json:MODE", a result of `fwl eval --json`. Throws DataError for a missing or malformed
// file, ConfigError for a malformed argument and for a mode that the file does not hold.
EvalRow read_eval_row(const std::string& argument);
// Fills change_percent and time_to_baseline of all rows; the first is the baseline.
void compare_with_baseline(std::vector<EvalRow>& rows);
// Pairs the points of both runs by step; steps that only one of them logged are left out.
GapCurve gap_between(const LoggedRun& baseline, const LoggedRun& run);

TextTable evaluation_table(const std::vector<EvalRow>& rows);
std::string report_html(const Report& report);
nlohmann::json report_json(const Report& report);

}  // namespace fwl
