// The backward of the inner loss, row by row, where the softmax's second derivative is that of the likely
// tokens alone. With r = p - y, q = r E, l the cotangent of the loss and u that of w q:
//   factor = l x + w u,       which E gets by r^T factor,
//   x_bar  = l q + sum_v h_v E_v,
//   h_v    = w p_v (<E_v, u> - m),   m = sum_v p_v <E_v, u> = <u, q + E_label>,
//   w_bar  = <u, q>.
// Of all tokens, h would be a product with the vocabulary for <E_v, u> and two more for what comes of it.
// Most of h is on few tokens: here on those that are listed. m is that of all tokens. What E gets through the
// logits, h^T x, is a sum by token (token_sums.h).
//
// Shape suffixes: n token, k place in a row's list, d width, v vocabulary.
#pragma once

#include "core/base/torch.h"
#include "core/kernels/likely_tokens.h"

namespace fwl {

// What a row has of its own. x, u and q in E's type; the weights and l in the accumulation type; labels int64
// in [0, V).
struct InnerLossRows {
  Tensor x_nd, u_nd, q_nd, label_n, weight_n, nll_bar_n;
};

struct LikelyHessian {
  Tensor x_bar_nd;      // E's type
  Tensor factor_nd;     // E's type
  Tensor token_nk;      // the lists that were given
  Tensor h_nk;          // h_v, 0 beyond the list; accumulation type
  Tensor weight_bar_n;  // w_bar, accumulation type
};

// No gradient. A row's bits depend on that row alone.
LikelyHessian likely_hessian(const LikelyTokens& likely, const InnerLossRows& rows,
                             const Tensor& unembedding_vd);

}  // namespace fwl
