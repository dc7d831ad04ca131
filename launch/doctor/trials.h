// What ranks try out together: connections between hosts, a folder that all must share, computing, and the
// speeds of communication and file system.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/base/torch.h"
#include "launch/doctor/checks.h"
#include "launch/doctor/facts.h"
#include "parallel/communicator.h"

namespace fwl {

// A connection that a rank tries: to a port of another rank.
struct Connection {
  int rank = 0;
  size_t port = 0;  // which of its ports
};
// Which connections `own` tries. The lowest rank of each host tries every other host, spread over that host's
// ranks and their ports, so that no port gets more than a few; every rank tries the next one of its own host.
std::vector<Connection> connections_of(const std::vector<RankFacts>& ranks, const RankFacts& own);
// Tries them. Returns what went wrong, naming the far host; empty: nothing.
std::string try_ports(const std::vector<RankFacts>& ranks, const RankFacts& own);

struct FolderTrial {
  std::string problem;       // empty: written, seen by the next rank, removed
  double write_bytes_s = 0;  // of this rank, synced to the disk; all ranks at once
  double read_bytes_s = 0;   // of the next rank's file, page cache dropped where the system lets us
};
// Every rank writes `bytes` to a file of its own in `folder`, and reads the next rank's. Leaves nothing
// behind. Collective over the group (host tensors).
FolderTrial try_folder(Communicator& group, const std::string& folder, int64_t bytes);

struct ComputeTrial {
  std::string problem;  // empty: right, and twice the same
  double flop_s = 0;
};
// A float32 matrix product, twice, and a check against float64.
ComputeTrial try_computing(at::Device device);

// Speed of one operation over one axis of the mesh. A bandwidth counts the bytes that one rank sends for a
// large tensor, over the time; a latency is the time of a call for 8 bytes. Medians, of the slowest rank.
struct Speed {
  double latency_s = 0;
  double bandwidth_bytes_s = 0;
};
struct AxisSpeed {
  std::string axis, backend;
  int ranks = 1;
  int64_t bytes = 0;  // of the large tensor
  Speed all_reduce, all_gather;
  Speed point_to_point;  // every rank sends to the next one and receives from the one before
};
// Collective over the world; `group` is this rank's group of the axis, `world` moves host tensors.
AxisSpeed measure_axis(const std::string& axis, Communicator& group, Communicator& world, int64_t bytes);

}  // namespace fwl
