// The likely tokens of rows of logits, those whose probability is at least a threshold, as lists: at most
// 1 / threshold of them, of a trained model a few. Made by the pass that takes the softmax
// (cross_entropy_errors_()), used by the backward of the inner loss (likely_hessian.h).
//
// Shape suffixes: n row, k place in a row's list.
#pragma once

#include "core/base/torch.h"

namespace fwl {

struct LikelyTokens {
  Tensor token_nk;        // the tokens of each row in an order of the device's, then -1: int32
  Tensor probability_nk;  // theirs, 0 beyond the list; accumulation type

  // Rows first to first + count - 1, which share memory with these.
  LikelyTokens rows(int64_t first, int64_t count) const {
    return {token_nk.narrow(0, first, count), probability_nk.narrow(0, first, count)};
  }
};

// Tokens that a row's list has room for: one more than fits in exact arithmetic, since rounded probabilities
// may add up to a little more than 1.
int64_t likely_places(int64_t vocabulary, double threshold);
// Thresholds whose lists are longer than this are refused where they are chosen (model.fast_weight.
// hessian_threshold): three lists of 4 bytes a token and place, which are sorted.
constexpr int64_t kMostLikelyPlaces = 1001;
// With room for the likely tokens of `rows` rows of `vocabulary` logits of type and device `like`; not
// filled. 0 < threshold < 1.
LikelyTokens room_for_likely_tokens(int64_t rows, int64_t vocabulary, double threshold, const Tensor& like);
// Fills the lists from probabilities in the accumulation type, [n, V] contiguous. On a CPU: on a GPU the
// softmax's kernel does.
void list_likely_tokens(const Tensor& probability_nv, double threshold, const LikelyTokens& likely);

}  // namespace fwl
