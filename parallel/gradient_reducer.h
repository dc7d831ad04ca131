// Sums the gradients of all ranks. They live in one flat tensor, owned by the model's parameters; the reducer
// cuts it into buckets of consecutive elements, one all-reduce each.
//
// The sum is never a mean: each rank's loss is already divided by the token count of the global batch.
//
// On GPUs the buckets of the last backward of a step are sent while the backward goes on: a bucket starts
// when the gradients of all its parameters are there. All ranks start buckets in one order, that in which
// rank 0's first backward completed them.
//
// The sums can travel in a narrower dtype than the gradient's: half the bytes in bfloat16, each rank's
// contribution and every partial sum rounded to it.
#pragma once

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "core/model/parameters.h"
#include "parallel/communicator.h"

namespace fwl {

constexpr int64_t kDefaultBucketBytes = 25 * 1024 * 1024;

// What the ranks hold after a reduction: the whole sum, or (ZeRO) each its part of every bucket, the rest of
// the gradient being undefined.
enum class Reduction { kAllReduce, kReduceScatter };

struct ReducerOptions {
  int64_t bucket_bytes = kDefaultBucketBytes;  // of the gradient, whatever it travels in
  Reduction reduction = Reduction::kAllReduce;
  std::optional<at::ScalarType> wire = {};  // kBFloat16, or the gradient's dtype
};

// Elements that each of `ranks` ranks gets of a bucket of `count`; what they leave of it all ranks share.
// Parts are whole runs of 16 bytes in bfloat16 unless they are shorter than one: NCCL and vectorised kernels
// are slow where a part begins elsewhere.
int64_t part_elements(int64_t count, int ranks);
// Elements in a bucket of `bucket_bytes`; whole parts where each rank gets one. Throws ConfigError when a
// bucket holds no element.
int64_t bucket_elements(int64_t bucket_bytes, const Tensor& flat, Reduction reduction, int ranks);

class GradientReducer {
 public:
  // `flat_gradient` is one-dimensional, contiguous and on the group's device, of the same length on all
  // ranks; it is shared, not copied. Throws ConfigError when bucket_bytes is smaller than one element.
  GradientReducer(Communicator& group, Tensor flat_gradient, const ReducerOptions& options = {});
  // The gradient of `parameters`, overlapped with the backward on GPUs. They outlive the reducer.
  GradientReducer(Communicator& group, Parameters& parameters, const ReducerOptions& options = {});
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
  void watch(Parameters& parameters, int64_t elements);
  void parameter_is_ready(size_t parameter);
  void start_ready_buckets();
  void start_bucket(const Tensor& bucket);
  void start_sum(const Tensor& part, const Tensor& all);
  void wait_for_all();
  void agree_on_order();

  // A sum that is under way. Where it travels in another dtype, `part` takes it from `wire` in the end.
  struct Sum {
    TransferPtr transfer;
    Tensor part, wire;
  };

  Communicator& group_;
  Reduction reduction_;
  at::ScalarType wire_;
  std::vector<Tensor> buckets_;  // views of the flat gradient, in order
  // Overlap; empty without it.
  Parameters* parameters_ = nullptr;
  std::vector<std::pair<std::shared_ptr<torch::autograd::Node>, uintptr_t>> hooks_;
  std::vector<std::pair<size_t, size_t>> buckets_of_parameter_;  // [first, last]
  std::vector<std::pair<size_t, size_t>> parameters_of_bucket_;  // [first, last]
  std::vector<int64_t> missing_;                                 // parameters, per bucket
  std::vector<int64_t> order_;                                   // of starting; empty until agreed on
  std::vector<int64_t> completed_;                               // of the backward that is under way
  size_t started_ = 0;
  bool last_backward_ = false;
  std::vector<Sum> under_way_;
};

}  // namespace fwl
