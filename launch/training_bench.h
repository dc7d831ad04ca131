// Training speed of a config in its layout on random text: whole optimizer steps, repeated, with what was
// sent, how much of it was hidden behind computation, and the memory used.
#pragma once

#include <string>
#include <vector>

#include "launch/run_config.h"
#include "launch/traffic_plan.h"

namespace fwl {

// Where a config leaves the vocabulary to the data set.
constexpr int64_t kBenchVocabulary = 50304;

struct BenchOptions {
  int64_t warmup_steps = 3;
  int64_t steps = 10;  // of one repetition
  int64_t repetitions = 3;
};

struct BenchResult {
  std::string layout, device, dtype, exchange;
  int64_t tokens_per_step = 0, parameters = 0;
  std::vector<double> tokens_per_s;  // of each repetition, over all ranks
  double step_s = 0;                 // median
  StepTraffic sent, predicted;       // one step of rank 0; `sent` over all steps must be a multiple
  double communication_s = 0;        // of one step of rank 0: transfers
  double exposed_s = 0;              // of it, that computation waited for
  int64_t peak_memory_bytes = 0;     // the largest of all ranks
  double loss = 0;                   // of the last step: shows that it trained

  double median() const;
  double hidden_share() const { return communication_s > 0 ? 1 - exposed_s / communication_s : 1; }
};

// Collective over the world. The result is complete on rank 0. Throws ConfigError, CommError.
BenchResult bench_training(RunConfig config, const BenchOptions& options);

}  // namespace fwl
