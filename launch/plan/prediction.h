// One training step of a config in a layout on N GPUs of a kind, predicted: memory, bytes, times.
#pragma once

#include "launch/plan/gpu.h"
#include "launch/plan/memory.h"
#include "launch/plan/step_work.h"
#include "launch/traffic_plan.h"

namespace fwl {

// The GPU and how fast it is at each kind of work.
struct Machine {
  Gpu gpu;
  WorkRates rates;
};
Machine machine_for(const Gpu& gpu, const WorkRates& h200);

// Seconds of one step.
struct StepTime {
  double compute = 0;     // one GPU's share of the work, nobody else there
  double host = 0;        // what the host's launches add where the GPU outruns them
  double gradients = 0;   // transfers of gradients, most of them behind the backward
  double attention = 0;   // transfers of keys and values, waited for
  double state = 0;       // transfers of fast-weight states, half of them behind the fast pass
  double exposed = 0;     // of the three: what computation waits for
  double contention = 0;  // what the hidden rest takes from computation
  double sequence = 0;    // what cut sequences cost beside transfers (measured on 1x2, not explained)
  double stragglers = 0;  // waiting for the slowest rank
  double total() const { return compute + host + exposed + contention + sequence + stragglers; }
};

struct Prediction {
  MeshShape shape;
  int64_t global_batch = 0, context = 0, micro_rows = 0;
  MemoryPlan memory;
  bool fits = false;    // in the GPU's memory less kReservedBytes
  StepTraffic traffic;  // bytes that rank 0 sends
  StepTime time;
  double flops = 0;  // of all ranks
  double tokens_per_s = 0, mfu = 0;
};

// The layout is taken as valid (layout_of). Micro-batches are those of the config, halved until they fit.
Prediction predict(const RunConfig& config, const MeshShape& shape, const Machine& machine);

}  // namespace fwl
