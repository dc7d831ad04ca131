#include "core/kernels/likely_hessian.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

#include "core/base/error.h"
#include "core/kernels/likely_hessian_cuda.h"
#include "core/kernels/matmul.h"
#include "core/kernels/wide.h"

namespace fwl {
namespace {

template <typename W>
using AccumulateOf = std::conditional_t<std::is_same_v<W, double>, double, float>;

template <typename W>
struct Rows {
  using T = AccumulateOf<W>;
  const int32_t* token_nk;
  const T* probability_nk;
  const W *x_nd, *u_nd, *q_nd;
  const int64_t* label_n;
  const T *weight_n, *nll_bar_n;
  const W* unembedding_vd;
  W *x_bar_nd, *factor_nd;
  T *h_nk, *weight_bar_n;
  int64_t width, places;
};

template <typename W>
FWL_INLINE AccumulateOf<W> dot(const W* __restrict a, const W* __restrict b, int64_t width) {
  constexpr int64_t kLanes = 16;
  AccumulateOf<W> part[kLanes] = {}, sum = 0;
  int64_t j = 0;
  for (; j + kLanes <= width; j += kLanes)
    for (int64_t l = 0; l < kLanes; ++l)
      part[l] += static_cast<AccumulateOf<W>>(a[j + l]) * static_cast<AccumulateOf<W>>(b[j + l]);
  for (; j < width; ++j) sum += static_cast<AccumulateOf<W>>(a[j]) * static_cast<AccumulateOf<W>>(b[j]);
  for (int64_t l = 0; l < kLanes; ++l) sum += part[l];
  return sum;
}

template <typename W, typename T = AccumulateOf<W>>
FWL_INLINE void add_scaled(T* __restrict sum, T factor, const W* __restrict row, int64_t width) {
  for (int64_t j = 0; j < width; ++j) sum[j] += factor * static_cast<T>(row[j]);
}

// `x_bar`: [width], for sums.
template <typename W>
FWL_INLINE void apply_rows(const Rows<W>& r, AccumulateOf<W>* __restrict x_bar, int64_t begin, int64_t end) {
  using T = AccumulateOf<W>;
  for (int64_t n = begin; n < end; ++n) {
    const W* __restrict x = r.x_nd + n * r.width;
    const W* __restrict u = r.u_nd + n * r.width;
    const W* __restrict q = r.q_nd + n * r.width;
    const T w = r.weight_n[n], l = r.nll_bar_n[n];
    W* __restrict factor = r.factor_nd + n * r.width;
    for (int64_t j = 0; j < r.width; ++j) {
      factor[j] = static_cast<W>(l * static_cast<T>(x[j]) + w * static_cast<T>(u[j]));
      x_bar[j] = l * static_cast<T>(q[j]);
    }
    r.weight_bar_n[n] = dot(u, q, r.width);
    const T mean = r.weight_bar_n[n] + dot(u, r.unembedding_vd + r.label_n[n] * r.width, r.width);
    const int32_t* token = r.token_nk + n * r.places;
    const T* p = r.probability_nk + n * r.places;
    T* h = r.h_nk + n * r.places;
    int64_t k = 0;
    for (; k < r.places && token[k] >= 0; ++k) {
      const W* row = r.unembedding_vd + token[k] * r.width;
      h[k] = w * p[k] * (dot(row, u, r.width) - mean);
      add_scaled(x_bar, h[k], row, r.width);
    }
    std::fill(h + k, h + r.places, T(0));
    for (int64_t j = 0; j < r.width; ++j) r.x_bar_nd[n * r.width + j] = static_cast<W>(x_bar[j]);
  }
}

FWL_WIDE void run(const Rows<float>& rows, float* x_bar, int64_t begin, int64_t end) {
  apply_rows(rows, x_bar, begin, end);
}
FWL_WIDE void run(const Rows<double>& rows, double* x_bar, int64_t begin, int64_t end) {
  apply_rows(rows, x_bar, begin, end);
}
void run(const Rows<at::BFloat16>& rows, float* x_bar, int64_t begin, int64_t end) {
  apply_rows(rows, x_bar, begin, end);
}

}  // namespace

LikelyHessian likely_hessian(const LikelyTokens& likely, const InnerLossRows& any_rows,
                             const Tensor& any_unembedding_vd) {
  const Tensor unembedding = any_unembedding_vd.contiguous();
  const InnerLossRows rows{any_rows.x_nd.contiguous(),     any_rows.u_nd.contiguous(),
                           any_rows.q_nd.contiguous(),     any_rows.label_n.contiguous(),
                           any_rows.weight_n.contiguous(), any_rows.nll_bar_n.contiguous()};
  const int64_t tokens = rows.x_nd.size(0), width = unembedding.size(1);
  const at::ScalarType type = unembedding.scalar_type(), wide = accumulate_type(type);
  for (const Tensor& t : {rows.x_nd, rows.u_nd, rows.q_nd})
    require<InternalError>(
        t.scalar_type() == type && t.dim() == 2 && t.size(0) == tokens && t.size(1) == width,
        "likely_hessian got rows ", t.sizes(), " for an unembedding ", unembedding.sizes());
  require<InternalError>(
      rows.label_n.numel() == tokens && rows.weight_n.numel() == tokens && rows.nll_bar_n.numel() == tokens &&
          rows.weight_n.scalar_type() == wide && rows.nll_bar_n.scalar_type() == wide &&
          likely.token_nk.size(0) == tokens && likely.token_nk.is_contiguous() &&
          likely.probability_nk.is_contiguous() && likely.probability_nk.scalar_type() == wide,
      "likely_hessian got labels ", rows.label_n.sizes(), ", weights ", rows.weight_n.sizes(),
      ", cotangents ", rows.nll_bar_n.sizes(), ", lists ", likely.token_nk.sizes());
  LikelyHessian result{at::empty_like(rows.x_nd), at::empty_like(rows.x_nd), likely.token_nk,
                       at::empty_like(likely.probability_nk), at::empty_like(rows.weight_n)};
  if (unembedding.is_cuda()) {
    cuda::likely_hessian(likely, rows, unembedding, result);
    return result;
  }
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, type, "likely_hessian", [&] {
    using T = AccumulateOf<scalar_t>;
    const Rows<scalar_t> pointers{likely.token_nk.const_data_ptr<int32_t>(),
                                  likely.probability_nk.const_data_ptr<T>(),
                                  rows.x_nd.const_data_ptr<scalar_t>(),
                                  rows.u_nd.const_data_ptr<scalar_t>(),
                                  rows.q_nd.const_data_ptr<scalar_t>(),
                                  rows.label_n.const_data_ptr<int64_t>(),
                                  rows.weight_n.const_data_ptr<T>(),
                                  rows.nll_bar_n.const_data_ptr<T>(),
                                  unembedding.const_data_ptr<scalar_t>(),
                                  result.x_bar_nd.mutable_data_ptr<scalar_t>(),
                                  result.factor_nd.mutable_data_ptr<scalar_t>(),
                                  result.h_nk.mutable_data_ptr<T>(),
                                  result.weight_bar_n.mutable_data_ptr<T>(),
                                  width,
                                  likely.token_nk.size(1)};
    at::parallel_for(0, tokens, 1, [&](int64_t begin, int64_t end) {
      std::vector<T> x_bar(static_cast<size_t>(width));
      run(pointers, x_bar.data(), begin, end);
    });
  });
  return result;
}

}  // namespace fwl
