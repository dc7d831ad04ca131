// Parallel = serial: some steps of a config with its layout, and of the same global batches on rank 0 alone.
// Loss, every parameter's gradient and updated weights, and with train.stream the carried state, compared
// array by array: largest difference relative to the array's largest magnitude.
#pragma once

#include <string>
#include <vector>

#include "launch/run_config.h"

namespace fwl {

struct ArrayDifference {
  std::string name;
  double gradient = 0, weight = 0;  // the largest over all steps
  double movement = 0;              // fp32: of one rank's own gradient at the kink; 0 where it was not needed
};

struct ParallelReport {
  std::string layout, dtype, device, exchange;
  double tolerance = 0;
  double epsilon = 0;  // of the optimizer; raised to 1e-2 below fp64 (see parallel_check.cpp)
  int64_t steps = 0;
  std::vector<double> losses;  // of rank 0 alone, nats per token
  double loss_difference = 0;  // relative
  double state_difference = 0;
  std::vector<ArrayDifference> arrays;
  double worst() const;
  // The tolerance, or twice the movement where that is more.
  double allowed(const ArrayDifference& array) const;
  bool passed() const;
};

// 1e-5 for fp32, 1e-11 for fp64; bf16 rounds every product: 5e-2. In fp32, where a gradient is off by more,
// one rank's own movement by rounding at the kink of the squared ReLU is measured, and twice that is allowed.
double parallel_tolerance(const std::string& dtype);
// Collective over the world. The report is complete on rank 0. Reads config.data.path, or makes random text
// with documents at shard edges and unscored rows when it is empty. Throws ConfigError, DataError.
ParallelReport check_parallel(RunConfig config, int64_t steps);

}  // namespace fwl
