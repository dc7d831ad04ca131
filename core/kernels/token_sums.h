// Sums of rows by token: what a table with a row for every token gets as its gradient, from lookups (one
// token a row) or from lists of tokens.
//
// Shape suffixes: n row, k place in a row's list, d width, v vocabulary.
#pragma once

#include "core/base/torch.h"

namespace fwl {

// sum_vd[token_nk[n, k]] += factor_nk[n, k] x_nd[n] for all n, k; tokens below 0 are none. token_nk: int32;
// sum_vd (contiguous) and factor_nk: x's accumulation type. Rows are added in an order that the tokens alone
// decide: the same bits every time. No gradient.
void add_token_sums_(Tensor& sum_vd, const Tensor& token_nk, const Tensor& factor_nk, const Tensor& x_nd);

}  // namespace fwl
