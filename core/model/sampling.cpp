#include "core/model/sampling.h"

#include <algorithm>
#include <limits>

#include "core/base/error.h"

namespace fwl {

namespace {

// Leaves out every token before which the more probable ones already reach `mass`. Ties: lower ids first.
Tensor nucleus(const Tensor& probability_v, double mass) {
  const auto [sorted_v, order_v] = probability_v.sort(/*stable=*/true, /*dim=*/0, /*descending=*/true);
  const Tensor before_v = sorted_v.cumsum(0) - sorted_v;
  return at::zeros_like(probability_v).scatter_(0, order_v, sorted_v * (before_v < mass));
}

}  // namespace

int64_t sample_token(const Tensor& logits_v, const SamplingOptions& options, at::Generator& generator) {
  Tensor scores_v = logits_v.to(at::kCPU, at::kDouble);
  require<CheckFailed>(
      scores_v.isfinite().all().item<bool>(),
      "the logits of the next token are not finite (the model or its fast weights diverged). "
      "Try --adapt off, or another checkpoint.");
  if (options.temperature <= 0) return scores_v.argmax().item<int64_t>();
  // The largest is 0 and stays so at any temperature; a small one takes the others to minus infinity, which
  // no softmax minds.
  scores_v = (scores_v - scores_v.max()) / options.temperature;
  if (options.top_k > 0 && options.top_k < scores_v.numel()) {
    const Tensor smallest_kept = std::get<0>(scores_v.topk(options.top_k)).min();
    scores_v = scores_v.masked_fill(scores_v < smallest_kept, -std::numeric_limits<double>::infinity());
  }
  Tensor probability_v = scores_v.softmax(0);
  if (options.top_p < 1) probability_v = nucleus(probability_v, options.top_p);
  return at::multinomial(probability_v, 1, false, generator).item<int64_t>();
}

}  // namespace fwl
