// Drawing the next token from logits.
#pragma once

#include "core/base/torch.h"

namespace fwl {

struct SamplingOptions {
  double temperature = 1.0;  // 0: the most probable token
  int64_t top_k = 0;         // 0: all
};

// logits_v: [v] on any device. Draws on the CPU in float64, so that a seed gives the same text on every
// device up to the rounding of the logits.
int64_t sample_token(const Tensor& logits_v, const SamplingOptions& options, at::Generator& generator);

}  // namespace fwl
