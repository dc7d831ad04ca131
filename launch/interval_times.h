// Where the time of a logged interval went, over all ranks.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "parallel/mesh.h"

namespace fwl {

// Transfers keep their times until they are taken, once a logged interval: a longer one would hold too many.
inline constexpr int64_t kTimedSteps = 100;

struct IntervalTimes {
  double communication_s = 0;     // that this rank's computation waited for transfers
  int64_t peak_memory_bytes = 0;  // of the rank with the most
  // By how many seconds less than the others a rank waited, so how long the others waited for it: at most 8
  // ranks, the worst first; empty on one rank.
  std::vector<std::pair<int, double>> rank_lag_s;
};

// Seconds by which each rank made the others wait, from the seconds that each rank waited itself.
std::vector<std::pair<int, double>> worst_lags(const std::vector<double>& waited_s);

// Collective over the world. Takes the times of the mesh's transfers since the last call.
IntervalTimes interval_times(Mesh& mesh, at::Device device);

}  // namespace fwl
