// The products of decoding: a few rows against all weights, and the recurrences of one sequence.
//
// On the CPU (float32, float64) every result row is a fixed sequence of operations on its own inputs alone:
// the same bits whatever rows are computed beside it, however a text is cut into calls, and whatever the
// number of threads. That is what makes a text independent of its batch and a saved state equal to reading
// again. Elsewhere the same functions are ATen operations, equal to rounding: `by_aten`.
//
// Shape suffixes: n row, m weight row, k weight column, t token, h head, c slot of a ring, e head dim.
#pragma once

#include "core/base/torch.h"

namespace fwl {

// x W^T + bias, [n, m]. x_nk, w_mk, bias_m: one dtype; bias_m may be undefined.
Tensor row_product(const Tensor& x_nk, const Tensor& w_mk, const Tensor& bias_m = {});
// x W, [n, k]: the rows of w summed with weights x_nm.
Tensor row_product_transposed(const Tensor& x_nm, const Tensor& w_mk);
// For every token in turn: S <- decay_t S + v_t k_t^T, in place. state_vk: accumulation type, contiguous.
void add_outer_products_(Tensor& state_vk, const std::vector<double>& decay_t, const Tensor& v_tv,
                         const Tensor& k_tk);

// Keys and values of one attention layer of one sequence; position p lies in slot p % C.
struct AttentionRing {
  Tensor key_hce, value_hce;
};
// For every token t in turn, at position first + t: its key and value go into the ring, then its query
// attends to the last min(position + 1, reach) positions; reach <= C. q, k, v, result: [t, h, e].
Tensor attend_ring(AttentionRing& ring, const Tensor& q_the, const Tensor& k_the, const Tensor& v_the,
                   int64_t first_position, int64_t reach);

// function(x), of a CPU's tensor row by row: a vectorised operation may treat the elements at its end
// otherwise, and where that is would depend on how many rows there are.
template <typename Function>
Tensor by_row(const Tensor& x_nk, Function function) {
  if (!x_nk.is_cpu() || x_nk.size(0) <= 1) return function(x_nk);
  std::vector<Tensor> rows;
  for (int64_t n = 0; n < x_nk.size(0); ++n) rows.push_back(function(x_nk.narrow(0, n, 1)));
  return at::cat(rows);
}

namespace by_aten {
Tensor row_product(const Tensor& x_nk, const Tensor& w_mk, const Tensor& bias_m = {});
Tensor row_product_transposed(const Tensor& x_nm, const Tensor& w_mk);
void add_outer_products_(Tensor& state_vk, const std::vector<double>& decay_t, const Tensor& v_tv,
                         const Tensor& k_tk);
Tensor attend_ring(AttentionRing& ring, const Tensor& q_the, const Tensor& k_the, const Tensor& v_the,
                   int64_t first_position, int64_t reach);
}  // namespace by_aten

}  // namespace fwl
