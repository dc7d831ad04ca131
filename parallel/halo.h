// The rows before a rank's shard of a sequence that its window reaches, from the left neighbours; in the
// backward their cotangents go back to the left and are added. With a stream (sequences that follow each
// other), the last rows of this sequence also go to the ranks whose window will reach back to them in the
// next.
//
// Rows are positions. Rank r holds [r L, (r + 1) L) of R L; it needs the `reach` rows before r L. Those
// before position 0 are the stream's memory, if there is one. Shape suffixes: n batch (keys, then values), h
// head, l position, e head dim.
#pragma once

#include <vector>

#include "parallel/communicator.h"
#include "parallel/sharded_attention.h"

namespace fwl {

class Halo {
 public:
  // Collective over the group. Starts the exchange. x_nhle: the last min(reach, length) of this rank's
  // `length` rows; memory_nhle: rows before the sequence that this rank reaches, or undefined.
  Halo(Communicator& group, const Tensor& x_nhle, int64_t length, int64_t reach, const Tensor& memory_nhle,
       StreamMemory stream);
  // Collective over the group. The rows before this rank's, oldest first; may be empty. Differentiable in x;
  // the memory has no gradient.
  Tensor finish();
  // After finish(): the rows of this sequence that the next one will reach back to from this rank. Without
  // gradient; may be empty.
  Tensor next_memory() const;

 private:
  c10::intrusive_ptr<torch::CustomClassHolder> exchange_;  // kept alive by the autograd graph too
  Tensor sent_, memory_nhle_;
};

// Rows [first, first + count), in positions of the sequence, that go from one rank to another.
struct HaloRows {
  int from, to;
  int64_t first, count;
};
// What all ranks send for their windows; ordered by `from`, then `to`.
std::vector<HaloRows> halo_rows(int ranks, int64_t length, int64_t reach);
// What goes to the next sequence's memories.
std::vector<HaloRows> memory_rows(int ranks, int64_t length, int64_t reach);

int64_t halo_rows_sent(int rank, int ranks, int64_t length, int64_t reach, StreamMemory stream);
int64_t halo_rows_received(int rank, int64_t length, int64_t reach);

}  // namespace fwl
