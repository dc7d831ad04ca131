#include "core/kernels/likely_gradient.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/base/error.h"
#include "core/kernels/likely_gradient_cuda.h"
#include "core/kernels/matmul.h"
#include "core/kernels/wide.h"

namespace fwl {
namespace {

constexpr int64_t kBlock = 64;  // of the vocabulary: looked at one by one where any is likely

// T: accumulation type, W: of the rows of E.
template <typename T, typename W>
struct Rows {
  const T* log_p_nv;
  const int64_t* label_n;
  const T* weight_n;  // or null
  const W* weight_vd;
  const T* rest_row_d;
  T* nll_n;
  W* gradient_nd;
  int32_t* kept_n;
  T* rest_n;
  int64_t vocabulary, width;
  T least;  // logarithm of the threshold
};

template <typename T, typename W>
FWL_INLINE void add_row(T* __restrict sum, T factor, const W* __restrict row, int64_t width) {
  for (int64_t j = 0; j < width; ++j) sum[j] += factor * static_cast<T>(row[j]);
}

template <typename T, typename W>
FWL_INLINE void sum_rows(const Rows<T, W>& r, T* __restrict sum, int64_t begin, int64_t end) {
  for (int64_t n = begin; n < end; ++n) {
    const T* __restrict log_p = r.log_p_nv + n * r.vocabulary;
    const int64_t label = r.label_n[n];
    int32_t kept = 0;
    T mass = 0;
    std::fill_n(sum, r.width, T(0));
    add_row(sum, T(-1), r.weight_vd + label * r.width, r.width);
    for (int64_t first = 0; first < r.vocabulary; first += kBlock) {
      const int64_t last = std::min(first + kBlock, r.vocabulary);
      int any = 0;
      for (int64_t v = first; v < last; ++v) any |= log_p[v] >= r.least;
      if (any == 0) continue;
      for (int64_t v = first; v < last; ++v) {
        if (!(log_p[v] >= r.least)) continue;
        const T p = std::exp(log_p[v]);
        add_row(sum, p, r.weight_vd + v * r.width, r.width);
        mass += p;
        ++kept;
      }
    }
    const T rest = mass < 1 ? 1 - mass : T(0);
    add_row(sum, rest, r.rest_row_d, r.width);
    const T weight = r.weight_n == nullptr ? T(1) : r.weight_n[n];
    for (int64_t j = 0; j < r.width; ++j) r.gradient_nd[n * r.width + j] = static_cast<W>(weight * sum[j]);
    r.nll_n[n] = -log_p[label];
    r.kept_n[n] = kept;
    r.rest_n[n] = rest;
  }
}

FWL_WIDE void run(const Rows<float, float>& rows, float* sum, int64_t begin, int64_t end) {
  sum_rows(rows, sum, begin, end);
}
FWL_WIDE void run(const Rows<double, double>& rows, double* sum, int64_t begin, int64_t end) {
  sum_rows(rows, sum, begin, end);
}
void run(const Rows<float, at::BFloat16>& rows, float* sum, int64_t begin, int64_t end) {
  sum_rows(rows, sum, begin, end);
}

template <typename W>
void over(const Tensor& log_p_nv, const Tensor& label_n, const Tensor& weight_n, const Tensor& unembedding_vd,
          const Tensor& rest_row_d, double threshold, LikelyGradient& result) {
  using T = std::conditional_t<std::is_same_v<W, double>, double, float>;
  const Rows<T, W> rows{log_p_nv.const_data_ptr<T>(),
                        label_n.const_data_ptr<int64_t>(),
                        weight_n.defined() ? weight_n.const_data_ptr<T>() : nullptr,
                        unembedding_vd.const_data_ptr<W>(),
                        rest_row_d.const_data_ptr<T>(),
                        result.nll_n.mutable_data_ptr<T>(),
                        result.gradient_nd.mutable_data_ptr<W>(),
                        result.kept_n.mutable_data_ptr<int32_t>(),
                        result.rest_n.mutable_data_ptr<T>(),
                        unembedding_vd.size(0),
                        unembedding_vd.size(1),
                        static_cast<T>(std::log(threshold))};
  at::parallel_for(0, label_n.numel(), 1, [&](int64_t begin, int64_t end) {
    std::vector<T> sum(static_cast<size_t>(rows.width));
    run(rows, sum.data(), begin, end);
  });
}

}  // namespace

LikelyGradient likely_gradient(const Tensor& logits_nv, const Tensor& label_n, const Tensor& unembedding_vd,
                               const Tensor& rest_row_d, double threshold, const Tensor& weight_n) {
  const at::ScalarType wide = accumulate_type(logits_nv.scalar_type());
  const bool weights_fit =
      !weight_n.defined() ||
      (weight_n.is_contiguous() && weight_n.numel() == label_n.numel() && weight_n.scalar_type() == wide);
  require<InternalError>(threshold > 0 && threshold < 1 && logits_nv.size(1) == unembedding_vd.size(0) &&
                             logits_nv.size(0) == label_n.numel() && label_n.is_contiguous() && weights_fit &&
                             logits_nv.scalar_type() == unembedding_vd.scalar_type() &&
                             rest_row_d.numel() == unembedding_vd.size(1) && rest_row_d.scalar_type() == wide,
                         "likely_gradient got logits ", logits_nv.sizes(), ", labels ", label_n.sizes(),
                         ", unembedding ", unembedding_vd.sizes(), ", rest ", rest_row_d.sizes(),
                         ", threshold ", threshold, weights_fit ? "" : ", weights of another type or length");
  if (logits_nv.is_cuda())
    return cuda::likely_gradient(logits_nv, label_n, unembedding_vd, rest_row_d.contiguous(), threshold,
                                 weight_n);
  const Tensor log_p_nv = at::log_softmax(logits_nv, -1, wide), weight_vd = unembedding_vd.contiguous();
  const int64_t tokens = logits_nv.size(0);
  LikelyGradient result{
      at::empty({tokens}, log_p_nv.options()), at::empty({tokens, weight_vd.size(1)}, weight_vd.options()),
      at::empty({tokens}, log_p_nv.options().dtype(at::kInt)), at::empty({tokens}, log_p_nv.options())};
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, weight_vd.scalar_type(), "likely_gradient", [&] {
    over<scalar_t>(log_p_nv, label_n, weight_n, weight_vd, rest_row_d.contiguous(), threshold, result);
  });
  return result;
}

}  // namespace fwl
