// AdamW over the ranks of a group that hold the same weights: replicated (every rank updates all) or sharded
// (ZeRO stage 1, Rajbhandari et al. 2020: each rank keeps moments for its part of every gradient bucket,
// updates that part, and the parts are gathered). Any number of parameters and ranks: what the parts leave of
// the last bucket is summed, kept and updated alike on all of them.
//
// Where forwards read copies in bfloat16, each rank keeps the float32 values of its parts alone, and the
// copies are gathered: half the bytes. The bucket of the step sizes, which are read in float32, stays whole.
//
// It expects the gradient as GradientReducer leaves it with the same bucket size and reduction().
#pragma once

#include <vector>

#include "core/optim/adamw.h"
#include "parallel/gradient_reducer.h"

namespace fwl {

enum class OptimizerSharding { kReplicated, kSharded };

inline Reduction reduction_for(OptimizerSharding sharding) {
  return sharding == OptimizerSharding::kSharded ? Reduction::kReduceScatter : Reduction::kAllReduce;
}

class ShardedOptimizer {
 public:
  // `group`: all ranks, on the parameters' device; both outlive the optimizer.
  ShardedOptimizer(Communicator& group, Parameters& parameters, const AdamWConfig& config,
                   OptimizerSharding sharding, int64_t bucket_bytes);

  // Clips the summed gradient to norm `clip` (0: no clipping) and updates all weights; where the norm is not
  // finite it changes nothing, on any rank. Returns the norm ([], float64, on the device, the same on all
  // ranks). Waits for no GPU: later work on the current stream sees all weights. Collective over the group
  // when sharded: a rank updates its elements, and a bucket's weights are gathered while the next is updated.
  Tensor step(double learning_rate, double clip);

  // All values, float32 or float64, [count()]. Collective over the group when they are spread over it.
  Tensor gather_values();

  // Moments of this rank's elements (and values, where they are spread over the ranks), end to end in the
  // order of owned(); the last `shared_elements()` of them are the same on all ranks.
  AdamW& own() { return adamw_; }
  const std::vector<ElementRange>& owned() const { return adamw_.owned(); }
  int64_t shared_elements() const { return shared_elements_; }
  OptimizerSharding sharding() const { return sharding_; }

 private:
  bool is_shared(const ElementRange& range) const;
  Tensor gradient_norm();
  void update_and_gather(double learning_rate, const UpdateScale& scale);
  bool is_sharded() const { return sharding_ == OptimizerSharding::kSharded && group_.size() > 1; }

  Communicator& group_;
  Parameters& parameters_;
  OptimizerSharding sharding_;
  AdamW adamw_;
  int64_t shared_elements_;
};

// What one of `ranks` ranks owns of `count` elements in buckets of `per_bucket` (as bucket_elements() has
// them): its part of each bucket and, last, the rest of the last bucket, which all ranks share.
int64_t shared_by_all(int64_t count, int64_t per_bucket, int ranks);  // elements of that rest
std::vector<ElementRange> shard_ranges(int64_t count, int64_t per_bucket, int rank, int ranks);

}  // namespace fwl
