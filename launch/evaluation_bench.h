// Speed of the forward passes that evaluation consists of: the static pass, the fast pass, and dynamic
// evaluation's step (loss, gradient and update of all weights). Whole sequences of the config's context, one
// rank; random weights and text, or a run's weights and a data set's text.
#pragma once

#include <string>
#include <vector>

#include "core/fast_weight/loss_head.h"
#include "launch/run_config.h"
#include "launch/training_bench.h"

namespace fwl {

struct EvaluationBenchOptions : BenchOptions {
  std::string weights;       // a run's folder or checkpoint of the config's shapes; empty: random weights
  std::string data;          // a split; empty: random tokens
  InnerApproximation inner;  // of the fast pass
};

struct EvaluationTime {
  std::string mode;                  // slow, fast (not for a control), dynamic
  std::vector<double> tokens_per_s;  // of each repetition
  double relative_time = 1;          // median, relative to slow
  double relative_time_spread = 0;   // over the repetitions (spread_of); NaN for one alone
  double flops_per_token = 0;
  double relative_flops = 1;  // relative to slow
  bool is_disturbed = false;  // less time than its share of the FLOPs needs (evaluation/speed.h)
  int64_t peak_memory_bytes = 0;

  double median() const;
};

struct EvaluationBenchResult {
  std::string device, dtype;
  int64_t tokens_per_batch = 0, parameters = 0;
  double loss = 0;  // of the static pass, nats per token: shows which weights read which text
  std::vector<EvaluationTime> modes;
  std::vector<std::string> speed_problems;  // in sentences; empty: the times say something of the model
};

// A batch is config.train.global_batch x config.model.context tokens. The modes take turns, repetition by
// repetition, so that what changes on the machine hits all of them. Throws ConfigError, DataError, and
// CheckFailed for weights that are not finite.
EvaluationBenchResult bench_evaluation(RunConfig config, const EvaluationBenchOptions& options);

}  // namespace fwl
