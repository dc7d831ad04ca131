// Sums of rows with factors, a thread a vector of columns. Device code only.
#pragma once

#include "core/kernels/device.cuh"

namespace fwl::cuda {

constexpr int kRowUnroll = 4;  // rows that a thread has under way

// sum[e] += factor(i) * row(i)[e] for i = first, first + step, ... below count.
template <int kColumns, typename Scalar, typename RowOf, typename FactorOf>
__device__ void add_rows(AccumulateOf<Scalar>* sum, int64_t first, int64_t count, int64_t step, RowOf row_of,
                         FactorOf factor_of) {
  using A = AccumulateOf<Scalar>;
  for (int64_t base = first; base < count; base += step * kRowUnroll) {
    Vector<Scalar, kColumns> loaded[kRowUnroll];
    A factor[kRowUnroll];
#pragma unroll
    for (int u = 0; u < kRowUnroll; ++u) {
      if (base + u * step >= count) continue;
      factor[u] = factor_of(base + u * step);
      loaded[u] = load_vector<kColumns>(static_cast<const Scalar*>(row_of(base + u * step)));
    }
#pragma unroll
    for (int u = 0; u < kRowUnroll; ++u) {
      if (base + u * step >= count) continue;
#pragma unroll
      for (int e = 0; e < kColumns; ++e) sum[e] += factor[u] * widen(loaded[u].at[e]);
    }
  }
}

}  // namespace fwl::cuda
