// The rolling hash of all that a run has read (checkpoints/FORMAT.md). Each rank hashes what it reads; the
// sum over the ranks is the run's hash, the same for every layout.
#pragma once

#include <cstdint>

#include "data/loader.h"

namespace fwl {

class DataHash {
 public:
  // The input tokens of the batch's rows, which are samples [first_sample, first_sample + rows);
  // `first_position` is that of the batch's first token in its sample.
  void add(const Batch& batch, int64_t first_sample, int64_t first_position = 0);
  void end_step();
  // This rank's share; shares of all ranks are summed modulo 2^64.
  uint64_t share() const { return share_; }
  // Goes on from a checkpoint: rank 0 with the run's hash, the others with 0.
  void restart(uint64_t share) {
    share_ = share;
    step_ = 0;
  }

 private:
  uint64_t share_ = 0, step_ = 0;
};

}  // namespace fwl
