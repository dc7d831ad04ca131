// Bytes that one rank sends in one training step, predicted from the config and the layout alone: the
// formulas of parallel/README.md put together. tests/launch/traffic_plan_mpi_test.cpp holds them against the
// counters.
#pragma once

#include <cstdint>
#include <string>

#include "launch/run_config.h"
#include "parallel/mesh.h"

namespace fwl {

struct StepTraffic {
  int64_t gradients = 0, attention = 0, state = 0;
  bool operator==(const StepTraffic&) const = default;
};

// MPI sends small sums another way than NCCL.
enum class Backend { kMpi, kNccl };
// `parameters`: the number of the model's.
StepTraffic predicted_traffic(const RunConfig& config, const MeshShape& shape, int data_rank,
                              int sequence_rank, int64_t parameters, Backend backend);
// Which algorithms the config means in a layout, "auto" resolved; empty where nothing is exchanged.
struct ExchangeNames {
  std::string attention, state;
};
ExchangeNames exchanges_of(const RunConfig& config, const MeshShape& shape);
// Bytes sent as counted by the groups since they were made.
StepTraffic counted_traffic(Mesh& mesh);

}  // namespace fwl
