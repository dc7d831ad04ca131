// The figures of the report, from runs and evaluation rows.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "launch/report/chart.h"
#include "launch/report/evaluation.h"
#include "launch/report/run.h"

namespace fwl {

// By how much a run's loss lies above (+) or below (-) another's at the same steps, so on the same batches.
struct GapCurve {
  std::string label;
  std::string against;
  std::vector<int64_t> step;
  std::vector<double> tokens;
  std::vector<double> percent;
};

// Pairs the points of both runs by step; steps that only one of them logged are left out.
GapCurve gap_between(const LoggedRun& baseline, const LoggedRun& run);
// Of every run but the first, against the first; not where their tokenizers are known to differ.
std::vector<GapCurve> gaps(const std::vector<LoggedRun>& runs);

Chart loss_chart(const std::vector<LoggedRun>& runs);
Chart gap_chart(const std::vector<GapCurve>& curves);
// Step sizes, decays, state norms, gradient norm, speed: each where it was logged.
std::vector<Chart> progress_charts(const std::vector<LoggedRun>& runs);

// Improvement over time per token, both against the first row. Nothing when no row has a speed.
std::optional<Chart> speed_quality_chart(const std::vector<EvalRow>& rows);
// What each row gains on the first, by position, by frequency in training, by occurrence and by length of the
// document. A row takes part where its bins hold the same tokens as the first row's.
std::vector<Chart> breakdown_charts(const std::vector<EvalRow>& rows);

}  // namespace fwl
