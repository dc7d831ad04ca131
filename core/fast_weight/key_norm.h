// Keys of one length (model.fast_weight.key_norm): k = x sqrt(reference / (|x|^2 + epsilon reference)), so
// that <k, k> = reference for both dense layers and a step size means the same for every token.
#pragma once

#include "core/base/torch.h"

namespace fwl {

enum class KeyNorm {
  kNone,
  kKeys,            // the fast weights stay weights: what they see is not changed
  kKeysAndQueries,  // both: scores are reference times the cosine
};

// The last dim of x scaled to the length sqrt(reference); rows far below sqrt(1e-6 reference) stay small, and
// zero stays zero. The length is taken in the accumulation type. Differentiable.
Tensor unit_keys(const Tensor& x, int64_t reference);

}  // namespace fwl
