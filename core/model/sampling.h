// Drawing the next token from logits. The temperature comes first, then top_k, then top_p.
#pragma once

#include "core/base/torch.h"

namespace fwl {

struct SamplingOptions {
  double temperature = 1.0;  // 0: the most probable token
  int64_t top_k = 0;         // 0: all
  double top_p = 1.0;        // of these, the fewest most probable tokens whose probabilities reach it
};

// logits_v: [v] on any device. Draws on the CPU in float64, so that a seed gives the same text on every
// device up to the rounding of the logits. Throws CheckFailed for logits that are not finite.
int64_t sample_token(const Tensor& logits_v, const SamplingOptions& options, at::Generator& generator);

}  // namespace fwl
