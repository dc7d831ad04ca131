// The softmax's second derivative, for the likely tokens alone. It is what the backward of the inner loss
// needs of the probabilities: with r = p - y and u the cotangent of r E, the logits' cotangent holds
//   h_v = w p_v (<E_v, u> - m),   m = sum_v p_v <E_v, u>,
// a product with the whole vocabulary for <E_v, u> and two more for what comes of h. Most of h is on few
// tokens: here those with p_v >= threshold, at most 1 / threshold of them, are listed row by row. m is that
// of all tokens.
//
// Shape suffixes: n token, k place in a row's list, d width, v vocabulary.
#pragma once

#include "core/base/torch.h"

namespace fwl {

struct LikelyHessian {
  Tensor x_bar_nd;  // sum_v h_v E_v, accumulation type
  Tensor token_nk;  // the tokens v of each row in an order of the device's, then -1: int32
  Tensor h_nk;      // h_v, 0 beyond the list; accumulation type
};

// residual_nv: p - y, contiguous; label_n: int64 in [0, V); weight_n: w; u_nd: dtype of E; mean_n: m.
// weight_n and mean_n in the accumulation type. 0 < threshold < 1. Rows of weight 0 list nothing. No
// gradient.
LikelyHessian likely_hessian(const Tensor& residual_nv, const Tensor& label_n, const Tensor& weight_n,
                             const Tensor& u_nd, const Tensor& mean_n, const Tensor& unembedding_vd,
                             double threshold);
// sum_vd[v] += h_v x for every listed token: the gradient of E through the logits. x_nd: dtype of E; sum_vd:
// accumulation type. Rows are added in their order: the same bits every time.
void add_listed_products_(Tensor& sum_vd, const LikelyHessian& hessian, const Tensor& x_nd);

}  // namespace fwl
