// The best layout of a training step on N GPUs, and how it scales.
#pragma once

#include <string>
#include <vector>

#include "launch/plan/prediction.h"

namespace fwl {

constexpr int kMostGpus = 16384;

struct ScalingPoint {
  std::string kind;  // weak, strong, sequence: as in launch/report/scaling.h
  Prediction prediction;
  double efficiency = 0;  // 1: as many times as fast as there are GPUs
};

struct Plan {
  int gpus = 1;
  Prediction best;
  std::string reason;              // why this layout
  bool grown = false;              // the batch was raised, since the configured one cannot be cut so finely
  std::vector<Prediction> others;  // layouts that were weighed, fastest first
};

// Weighs every data x sequence of `gpus` that the config allows (parallel.* of the config are not looked at).
// Where the global batch and the context do not go into so many ranks, the batch is raised to one sequence
// a rank. Throws ConfigError when nothing fits into memory.
Plan make_plan(const RunConfig& config, int gpus, const Machine& machine);

// 1, 2, 4, ... up to `gpus`. weak: as many sequences a GPU as one GPU's micro-batch; strong: the configured
// global batch in its best layout, as far as it can be cut; sequence: 1 x N, the context growing with N.
std::vector<ScalingPoint> scaling_curves(const RunConfig& config, int gpus, const Machine& machine);

}  // namespace fwl
