// Row-wise softmax work of the two heads (the inner loss with its gradient, and the outer cross-entropy),
// done in place on blocks of logits, so that a block is read and written once. CUDA kernels: softmax_rows.cu;
// elsewhere the same functions as ATen operations. Sums are taken in float32 (float64 for float64 logits).
#pragma once

#include "core/base/torch.h"
#include "core/kernels/likely_tokens.h"

namespace fwl {

// In place: logits_nv[t] <- weight_n[t] * (softmax(logits_nv[t]) - onehot(label_n[t])).
// Returns the negative log-likelihood of each row before weighting, [n] in the accumulation type.
//   logits_nv: [n, V] contiguous; label_n: [n] int64 in [0, V); weight_n: [n] in the accumulation type.
Tensor cross_entropy_gradient_(Tensor& logits_nv, const Tensor& label_n, const Tensor& weight_n);

// The same for weights of 1: logits_nv[t] <- softmax(logits_nv[t]) - onehot(label_n[t]). Also fills the lists
// of the tokens whose probability is at least `threshold`; `likely` comes from room_for_likely_tokens().
Tensor cross_entropy_errors_(Tensor& logits_nv, const Tensor& label_n, double threshold,
                             const LikelyTokens& likely);

// The negative log-likelihoods alone, [n] in the accumulation type: nothing is written to the logits.
Tensor cross_entropy(const Tensor& logits_nv, const Tensor& label_n);

// Backward of the op (l, e) = (nll, weight * (p - onehot)) with p = softmax(logits), for cotangents
// `nll_bar_n` of l and `error_bar_nv` of e. `nll_n` is what the forward returned
// for these logits. In place:
//   error_bar_nv <- nll_bar (p - y) + weight p (error_bar - <p, error_bar>)     the cotangent of the logits
//   logits_nv    <- weight (p - y)                                              e again
void cross_entropy_gradient_backward_(Tensor& logits_nv, Tensor& error_bar_nv, const Tensor& label_n,
                                      const Tensor& weight_n, const Tensor& nll_n, const Tensor& nll_bar_n);

// The same cotangent of the logits from the residual r = p - y that cross_entropy_gradient_() leaves for
// weights of 1, where it was kept: no logits, no exponentials. In place:
//   error_bar_nv <- nll_bar r + weight (r + y) (error_bar - <r + y, error_bar>)
void cross_entropy_residual_backward_(const Tensor& residual_nv, Tensor& error_bar_nv, const Tensor& label_n,
                                      const Tensor& weight_n, const Tensor& nll_bar_n);

}  // namespace fwl
