// Sums the gradients of all ranks. They live in one flat tensor, owned by the model's parameters; the reducer
// cuts it into buckets of consecutive elements, one all-reduce each.
//
// The sum is never a mean: each rank's loss is already divided by the token count of the global batch.
#pragma once

#include <vector>

#include "parallel/communicator.h"

namespace fwl {

constexpr int64_t kDefaultBucketBytes = 25 * 1024 * 1024;

class GradientReducer {
 public:
  // `flat_gradient` is one-dimensional, contiguous and on the group's device, of the same length on all
  // ranks; it is shared, not copied. Throws ConfigError when bucket_bytes is smaller than one element.
  GradientReducer(Communicator& group, Tensor flat_gradient, int64_t bucket_bytes = kDefaultBucketBytes);

  // Collective over the group. On the CPU the gradient holds the sum when the call returns; on a GPU the sums
  // are enqueued on the current stream.
  void reduce();

  int64_t buckets() const { return static_cast<int64_t>(buckets_.size()); }

 private:
  Communicator& group_;
  std::vector<Tensor> buckets_;  // views of the flat gradient, in order
};

}  // namespace fwl
