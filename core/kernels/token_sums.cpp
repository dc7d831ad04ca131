#include "core/kernels/token_sums.h"

#include <ATen/Parallel.h>

#include <vector>

#include "core/base/error.h"
#include "core/kernels/matmul.h"
#include "core/kernels/token_sums_cuda.h"
#include "core/kernels/wide.h"

namespace fwl {
namespace {

template <typename W>
using AccumulateOf = std::conditional_t<std::is_same_v<W, double>, double, float>;

template <typename W, typename T = AccumulateOf<W>>
FWL_INLINE void add_scaled(T* __restrict sum, T factor, const W* __restrict row, int64_t width) {
  for (int64_t j = 0; j < width; ++j) sum[j] += factor * static_cast<T>(row[j]);
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
struct Sums {
  const int64_t *first_v, *pair;
  const AccumulateOf<W>* factor_nk;
  const W* x_nd;
  AccumulateOf<W>* sum_vd;
  int64_t width, places;
};

template <typename W>
FWL_INLINE void add_tokens(const Sums<W>& s, int64_t begin, int64_t end) {
  for (int64_t v = begin; v < end; ++v)
    for (int64_t i = s.first_v[v]; i < s.first_v[v + 1]; ++i)
      add_scaled(s.sum_vd + v * s.width, s.factor_nk[s.pair[i]], s.x_nd + s.pair[i] / s.places * s.width,
                 s.width);
}

FWL_WIDE void add(const Sums<float>& sums, int64_t begin, int64_t end) {
  add_tokens(sums, begin, end);
}
FWL_WIDE void add(const Sums<double>& sums, int64_t begin, int64_t end) {
  add_tokens(sums, begin, end);
}
void add(const Sums<at::BFloat16>& sums, int64_t begin, int64_t end) {
  add_tokens(sums, begin, end);
}

}  // namespace

void add_token_sums_(Tensor& sum_vd, const Tensor& any_token_nk, const Tensor& any_factor_nk,
                     const Tensor& any_x_nd) {
  const Tensor token_nk = any_token_nk.contiguous(), factor_nk = any_factor_nk.contiguous(),
               x_nd = any_x_nd.contiguous();
  require<InternalError>(sum_vd.is_contiguous() && sum_vd.dim() == 2 && x_nd.dim() == 2 &&
                             token_nk.dim() == 2 && sum_vd.scalar_type() == factor_nk.scalar_type() &&
                             sum_vd.scalar_type() == accumulate_type(x_nd.scalar_type()) &&
                             token_nk.scalar_type() == at::kInt && token_nk.sizes() == factor_nk.sizes() &&
                             x_nd.size(0) == token_nk.size(0) && x_nd.size(1) == sum_vd.size(1),
                         "add_token_sums_ got sums ", sum_vd.sizes(), ", rows ", x_nd.sizes(), ", tokens ",
                         token_nk.sizes(), ", factors ", factor_nk.sizes());
  if (token_nk.numel() == 0) return;
  if (sum_vd.is_cuda()) {
    cuda::add_token_sums_(sum_vd, token_nk, factor_nk, x_nd);
    return;
  }
  const ByToken by_token(token_nk.const_data_ptr<int32_t>(), token_nk.numel(), sum_vd.size(0));
  AT_DISPATCH_FLOATING_TYPES_AND(at::kBFloat16, x_nd.scalar_type(), "add_token_sums", [&] {
    using T = AccumulateOf<scalar_t>;
    const Sums<scalar_t> sums{by_token.first_v.data(),
                              by_token.pair.data(),
                              factor_nk.const_data_ptr<T>(),
                              x_nd.const_data_ptr<scalar_t>(),
                              sum_vd.mutable_data_ptr<T>(),
                              sum_vd.size(1),
                              token_nk.size(1)};
    at::parallel_for(0, sum_vd.size(0), 64, [&](int64_t begin, int64_t end) { add(sums, begin, end); });
  });
}

}  // namespace fwl
