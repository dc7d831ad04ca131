// Measured scaling ("scaling") and predicted scaling ("plan") of JSON files, and their figures.
#pragma once

#include <limits>
#include <string>
#include <vector>

#include "launch/report/chart.h"

namespace fwl {

// {"layout": "2x1", "gpus": 2, "model": "124m", "context": 4096, "tokens_per_s": 352900, "efficiency": 0.973,
//  "kind": "weak" | "strong" | "sequence"}
struct ScalingRow {
  std::string layout;  // data x sequence
  double gpus = 0;
  std::string model;
  double context = 0;  // tokens; NaN when not given
  double tokens_per_s = 0;
  double efficiency = std::numeric_limits<double>::quiet_NaN();  // 1: as many times as fast as there are GPUs
  std::string kind;
  bool predicted = false;
  bool best_layout = false;  // of a curve that takes the best layout at each number of GPUs: one line
};

// The rows of the arrays "scaling" and "plan" of FILE.json (or LABEL=FILE.json). With an object "plan" (`fwl
// plan --json`) all are predicted, each for the best layout. A row without an efficiency gets that to the row
// with the fewest GPUs of its line. Throws DataError (file, row).
std::vector<ScalingRow> read_scaling(const std::string& argument);

// Per kind: tokens per second and efficiency over the number of GPUs.
std::vector<Chart> scaling_charts(const std::vector<ScalingRow>& rows);
TextTable scaling_table(const std::vector<ScalingRow>& rows);

}  // namespace fwl
