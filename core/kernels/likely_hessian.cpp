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

constexpr int64_t kBlock = 64;  // of the vocabulary: looked at one by one where any is likely

template <typename W>
using AccumulateOf = std::conditional_t<std::is_same_v<W, double>, double, float>;

template <typename W>
struct Rows {
  using T = AccumulateOf<W>;
  const W* residual_nv;
  const int64_t* label_n;
  const T *weight_n, *mean_n;
  const W *u_nd, *unembedding_vd;
  T *x_bar_nd, *h_nk;
  int32_t* token_nk;
  int64_t vocabulary, width, places;
  T threshold;
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

// Lists the likely tokens of a row and their probabilities; returns how many they are.
template <typename W, typename T = AccumulateOf<W>>
FWL_INLINE int64_t list_likely(const Rows<W>& r, const W* __restrict residual, int64_t label, int32_t* token,
                               T* p_of) {
  int64_t count = 0;
  for (int64_t first = 0; first < r.vocabulary; first += kBlock) {
    const int64_t last = std::min(first + kBlock, r.vocabulary);
    int any = label >= first && label < last;
    for (int64_t v = first; v < last; ++v) any |= static_cast<T>(residual[v]) >= r.threshold;
    if (any == 0) continue;
    for (int64_t v = first; v < last && count < r.places; ++v) {
      const T p = static_cast<T>(residual[v]) + (v == label ? T(1) : T(0));
      if (!(p >= r.threshold)) continue;
      token[count] = static_cast<int32_t>(v);
      p_of[count++] = p;
    }
  }
  return count;
}

template <typename W>
FWL_INLINE void apply_rows(const Rows<W>& r, int64_t begin, int64_t end) {
  using T = AccumulateOf<W>;
  for (int64_t n = begin; n < end; ++n) {
    T *x_bar = r.x_bar_nd + n * r.width, *h = r.h_nk + n * r.places;
    int32_t* token = r.token_nk + n * r.places;
    std::fill_n(x_bar, r.width, T(0));
    const int64_t count =
        r.weight_n[n] == 0 ? 0 : list_likely(r, r.residual_nv + n * r.vocabulary, r.label_n[n], token, h);
    for (int64_t k = 0; k < count; ++k) {
      const W* row = r.unembedding_vd + token[k] * r.width;
      h[k] *= r.weight_n[n] * (dot(row, r.u_nd + n * r.width, r.width) - r.mean_n[n]);
      add_scaled(x_bar, h[k], row, r.width);
    }
    std::fill(token + count, token + r.places, -1);
    std::fill(h + count, h + r.places, T(0));
  }
}

FWL_WIDE void run(const Rows<float>& rows, int64_t begin, int64_t end) {
  apply_rows(rows, begin, end);
}
FWL_WIDE void run(const Rows<double>& rows, int64_t begin, int64_t end) {
  apply_rows(rows, begin, end);
}
void run(const Rows<at::BFloat16>& rows, int64_t begin, int64_t end) {
  apply_rows(rows, begin, end);
}

// The listed pairs of a row and a token, by token; those of a token in the order of rows.
struct ByToken {
  std::vector<int64_t> first_v;  // [V + 1]
  std::vector<int64_t> pair;     // n K + k

  ByToken(const int32_t* token, int64_t pairs, int64_t vocabulary)
      : first_v(static_cast<size_t>(vocabulary) + 1), pair(static_cast<size_t>(pairs)) {
    for (int64_t i = 0; i < pairs; ++i)
      if (token[i] >= 0) ++first_v[static_cast<size_t>(token[i]) + 1];
    for (size_t v = 1; v < first_v.size(); ++v) first_v[v] += first_v[v - 1];
    std::vector<int64_t> next(first_v.begin(), first_v.end() - 1);
    for (int64_t i = 0; i < pairs; ++i)
      if (token[i] >= 0) pair[static_cast<size_t>(next[static_cast<size_t>(token[i])]++)] = i;
  }
};

template <typename W>
struct Products {
  const int64_t *first_v, *pair;
  const AccumulateOf<W>* h_nk;
  const W* x_nd;
  AccumulateOf<W>* sum_vd;
  int64_t width, places;
};

template <typename W>
FWL_INLINE void add_tokens(const Products<W>& p, int64_t begin, int64_t end) {
  for (int64_t v = begin; v < end; ++v)
    for (int64_t i = p.first_v[v]; i < p.first_v[v + 1]; ++i)
      add_scaled(p.sum_vd + v * p.width, p.h_nk[p.pair[i]], p.x_nd + p.pair[i] / p.places * p.width, p.width);
}

FWL_WIDE void add(const Products<float>& products, int64_t begin, int64_t end) {
  add_tokens(products, begin, end);
}
FWL_WIDE void add(const Products<double>& products, int64_t begin, int64_t end) {
  add_tokens(products, begin, end);
}
void add(const Products<at::BFloat16>& products, int64_t begin, int64_t end) {
  add_tokens(products, begin, end);
}

}  // namespace

LikelyHessian likely_hessian(const Tensor& residual_nv, const Tensor& label_n, const Tensor& weight_n,
                             const Tensor& u_nd, const Tensor& mean_n, const Tensor& unembedding_vd,
                             double threshold) {
  const int64_t tokens = residual_nv.size(0), vocabulary = unembedding_vd.size(0),
                width = unembedding_vd.size(1);
  const at::ScalarType type = unembedding_vd.scalar_type(), wide = accumulate_type(type);
  require<InternalError>(
      threshold > 0 && threshold < 1 && residual_nv.is_contiguous() && residual_nv.size(1) == vocabulary &&
          residual_nv.scalar_type() == type && u_nd.scalar_type() == type && u_nd.numel() == tokens * width &&
          label_n.numel() == tokens && label_n.is_contiguous() && weight_n.numel() == tokens &&
          mean_n.numel() == tokens && weight_n.scalar_type() == wide && mean_n.scalar_type() == wide,
      "likely_hessian got residuals ", residual_nv.sizes(), ", labels ", label_n.sizes(), ", weights ",
      weight_n.sizes(), ", cotangents ", u_nd.sizes(), ", means ", mean_n.sizes(), ", unembedding ",
      unembedding_vd.sizes(), ", threshold ", threshold);
  // One more than fits in exact arithmetic: rounded probabilities may add up to a little more than 1.
  const auto places = static_cast<int64_t>(std::min(static_cast<double>(vocabulary), 1 / threshold + 1));
  const auto options = unembedding_vd.options().dtype(wide).requires_grad(false);
  LikelyHessian result{at::empty({tokens, width}, options),
                       at::empty({tokens, places}, options.dtype(at::kInt)),
                       at::empty({tokens, places}, options)};
  const Tensor u = u_nd.contiguous(), weight = weight_n.contiguous(), mean = mean_n.contiguous(),
               unembedding = unembedding_vd.contiguous();
  if (residual_nv.is_cuda()) {
    cuda::likely_hessian(residual_nv, label_n, weight, u, mean, unembedding, threshold, result);
    return result;
  }
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, type, "likely_hessian", [&] {
    using T = AccumulateOf<scalar_t>;
    const Rows<scalar_t> rows{residual_nv.const_data_ptr<scalar_t>(),
                              label_n.const_data_ptr<int64_t>(),
                              weight.const_data_ptr<T>(),
                              mean.const_data_ptr<T>(),
                              u.const_data_ptr<scalar_t>(),
                              unembedding.const_data_ptr<scalar_t>(),
                              result.x_bar_nd.mutable_data_ptr<T>(),
                              result.h_nk.mutable_data_ptr<T>(),
                              result.token_nk.mutable_data_ptr<int32_t>(),
                              vocabulary,
                              width,
                              places,
                              static_cast<T>(threshold)};
    at::parallel_for(0, tokens, 1, [&](int64_t begin, int64_t end) { run(rows, begin, end); });
  });
  return result;
}

void add_listed_products_(Tensor& sum_vd, const LikelyHessian& hessian, const Tensor& any_x_nd) {
  const Tensor x_nd = any_x_nd.contiguous();
  require<InternalError>(sum_vd.is_contiguous() && sum_vd.scalar_type() == hessian.h_nk.scalar_type() &&
                             x_nd.size(0) == hessian.h_nk.size(0) && x_nd.size(1) == sum_vd.size(1),
                         "add_listed_products_ got sums ", sum_vd.sizes(), ", rows ", x_nd.sizes(),
                         ", lists ", hessian.h_nk.sizes());
  if (sum_vd.is_cuda()) {
    cuda::add_listed_products_(sum_vd, hessian, x_nd);
    return;
  }
  const ByToken by_token(hessian.token_nk.const_data_ptr<int32_t>(), hessian.token_nk.numel(),
                         sum_vd.size(0));
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, x_nd.scalar_type(), "add_listed_products", [&] {
    using T = AccumulateOf<scalar_t>;
    const Products<scalar_t> products{by_token.first_v.data(),
                                      by_token.pair.data(),
                                      hessian.h_nk.const_data_ptr<T>(),
                                      x_nd.const_data_ptr<scalar_t>(),
                                      sum_vd.mutable_data_ptr<T>(),
                                      sum_vd.size(1),
                                      hessian.h_nk.size(1)};
    at::parallel_for(0, sum_vd.size(0), 64, [&](int64_t begin, int64_t end) { add(products, begin, end); });
  });
}

}  // namespace fwl
