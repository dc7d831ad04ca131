#include "core/model/sampling.h"

#include <algorithm>
#include <limits>

namespace fwl {

int64_t sample_token(const Tensor& logits_v, const SamplingOptions& options, at::Generator& generator) {
  Tensor scores_v = logits_v.to(at::kCPU, at::kDouble);
  if (options.temperature <= 0) return scores_v.argmax().item<int64_t>();
  scores_v = scores_v / options.temperature;
  if (options.top_k > 0 && options.top_k < scores_v.numel()) {
    const Tensor smallest_kept = std::get<0>(scores_v.topk(options.top_k)).min();
    scores_v = scores_v.masked_fill(scores_v < smallest_kept, -std::numeric_limits<double>::infinity());
  }
  return at::multinomial(scores_v.softmax(0), 1, false, generator).item<int64_t>();
}

}  // namespace fwl
