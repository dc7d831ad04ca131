#include "parallel/gradient_reducer.h"

#include <algorithm>

#include "core/base/error.h"

namespace fwl {

GradientReducer::GradientReducer(Communicator& group, Tensor flat_gradient, int64_t bucket_bytes)
    : group_(group) {
  require<InternalError>(flat_gradient.dim() == 1 && flat_gradient.is_contiguous(),
                         "the gradient to reduce is not one flat contiguous tensor.");
  const int64_t element_bytes = static_cast<int64_t>(flat_gradient.element_size());
  require<ConfigError>(bucket_bytes >= element_bytes, "a gradient bucket of ", bucket_bytes,
                       " bytes holds no element of ", element_bytes, " bytes. Use a bucket of some MiB.");
  const int64_t step = bucket_bytes / element_bytes;
  for (int64_t first = 0; first < flat_gradient.numel(); first += step) {
    buckets_.push_back(
        flat_gradient.detach().narrow(0, first, std::min(step, flat_gradient.numel() - first)));
  }
}

void GradientReducer::reduce() {
  if (group_.size() == 1) return;
  for (const Tensor& bucket : buckets_) group_.all_reduce_sum(bucket, purpose::kGradients);
}

}  // namespace fwl
