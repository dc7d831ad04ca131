// Compares lists of likely tokens.
#pragma once

#include "core/kernels/likely_tokens.h"

namespace fwl {

// Equal up to the order of their tokens; one whose probability is the threshold to rounding may be on either.
void expect_same_lists(const LikelyTokens& found, const LikelyTokens& expected, int64_t vocabulary,
                       double threshold);

}  // namespace fwl
