// The gradient of the cross-entropy from the likely tokens, all others being taken together: E^T (p - y), a
// product with the whole vocabulary, becomes a sum of few rows of E and of one vector r, which stands for the
// rows of the tokens whose probability is below a threshold. For passes without gradient (evaluation,
// generation): most of a trained model's probability lies on few tokens.
//
// With L the tokens that are taken together, the result is off by sum_{v in L} p_v (r - E_v), whose length is
// at most `rest` = sum_{v in L} p_v times the largest |E_v - r|. With r the mean of E's rows the errors of a
// sequence have no direction in common; with r = 0 they do, and fast weights, which add them up, lose most of
// their worth. At most 1 / threshold tokens are summed one by one.
//
// Shape suffixes: n token, d width, v vocabulary.
#pragma once

#include "core/base/torch.h"

namespace fwl {

struct LikelyGradient {
  Tensor nll_n;        // of the label, as cross_entropy(): accumulation type
  Tensor gradient_nd;  // sum over v with p_v >= threshold of p_v E_v, plus rest r, minus E_label; dtype of E
  Tensor kept_n;       // number of v with p_v >= threshold, int32
  Tensor rest_n;       // probability of the others, accumulation type
};

// logits_nv: [n, V] contiguous, not changed; label_n: int64 in [0, V); unembedding_vd: [V, d], dtype of the
// logits; rest_row_d: r, accumulation type. 0 < threshold < 1. weight_n: a factor of each row's gradient,
// accumulation type; undefined: 1. No gradient. A row's bits depend on that row alone.
LikelyGradient likely_gradient(const Tensor& logits_nv, const Tensor& label_n, const Tensor& unembedding_vd,
                               const Tensor& rest_row_d, double threshold, const Tensor& weight_n = {});

}  // namespace fwl
