// How many bytes one rank sends in a collective: the formulas of parallel/README.md, used where traffic is
// counted and where it is predicted.
#pragma once

#include <cstdint>

namespace fwl {

// A ring all-reduce of `count` elements: reduce-scatter, then all-gather, over blocks that differ by at most
// one element. Rank `rank` sends every block but one in each half.
int64_t all_reduce_bytes(int64_t count, int64_t element_bytes, int rank, int size);

// Sums of at most this size go through MPI's own all-reduce and count as their size: there a collective costs
// latency, not bandwidth, and MPI's trees win.
inline constexpr int64_t kMpiSmallBytes = 64 * 1024;

}  // namespace fwl
