// Sums the gradients of all ranks. They live in one flat tensor, owned by the model's parameters; the reducer
// cuts it into buckets of consecutive elements, one all-reduce each.
//
// The sum is never a mean: each rank's loss is already divided by the token count of the global batch.
//
// On GPUs the buckets of the last backward of a step are sent while the backward goes on: a bucket starts
// when the gradients of all its parameters are there. All ranks start buckets in one order, that in which
// rank 0's first backward completed them.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "core/model/parameters.h"
#include "parallel/communicator.h"

namespace fwl {

constexpr int64_t kDefaultBucketBytes = 25 * 1024 * 1024;

class GradientReducer {
 public:
  // `flat_gradient` is one-dimensional, contiguous and on the group's device, of the same length on all
  // ranks; it is shared, not copied. Throws ConfigError when bucket_bytes is smaller than one element.
  GradientReducer(Communicator& group, Tensor flat_gradient, int64_t bucket_bytes = kDefaultBucketBytes);
  // The gradient of `parameters`, overlapped with the backward on GPUs. They outlive the reducer.
  GradientReducer(Communicator& group, Parameters& parameters, int64_t bucket_bytes = kDefaultBucketBytes);
  ~GradientReducer();
  GradientReducer(const GradientReducer&) = delete;
  GradientReducer& operator=(const GradientReducer&) = delete;

  // Local. The next backward is the last before reduce(): its gradients are final.
  void expect_last_backward();
  // Collective over the group. On the CPU the gradient holds the sum when the call returns; on a GPU later
  // work on the current stream sees the sums.
  void reduce();

  int64_t buckets() const { return static_cast<int64_t>(buckets_.size()); }

 private:
  class ReadyHook;
  void watch(Parameters& parameters, int64_t bucket_elements);
  void parameter_is_ready(size_t parameter);
  void start_ready_buckets();
  void agree_on_order();

  Communicator& group_;
  std::vector<Tensor> buckets_;  // views of the flat gradient, in order
  // Overlap; empty without it.
  std::vector<std::pair<std::shared_ptr<torch::autograd::Node>, uintptr_t>> hooks_;
  std::vector<std::pair<size_t, size_t>> buckets_of_parameter_;  // [first, last]
  std::vector<int64_t> parameters_in_bucket_, missing_;          // per bucket
  std::vector<int64_t> order_;                                   // of starting; empty until agreed on
  std::vector<int64_t> completed_;                               // of the backward that is under way
  size_t started_ = 0;
  bool last_backward_ = false;
  std::vector<TransferPtr> under_way_;
};

}  // namespace fwl
