#include "core/kernels/row_products.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/base/error.h"
#include "core/kernels/wide.h"

namespace fwl {
namespace {

constexpr int64_t kVectorBytes = 64;
// A vector of 64 bytes at any address.
template <typename T>
struct VectorOf;
template <>
struct VectorOf<float> {
  typedef float type __attribute__((vector_size(64), aligned(4), may_alias));
};
template <>
struct VectorOf<double> {
  typedef double type __attribute__((vector_size(64), aligned(8), may_alias));
};
template <typename T>
using Vector = typename VectorOf<T>::type;
template <typename T>
constexpr int64_t kLanes = kVectorBytes / static_cast<int64_t>(sizeof(T));

template <typename T>
FWL_INLINE const Vector<T>& vector_at(const T* p) {
  return *reinterpret_cast<const Vector<T>*>(p);
}
template <typename T>
FWL_INLINE Vector<T>& vector_at(T* p) {
  return *reinterpret_cast<Vector<T>*>(p);
}

// Sum of a vector's lanes, by halves.
FWL_INLINE float lane_sum(const Vector<float>& v) {
  const auto h = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
                 __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
  const auto q = __builtin_shufflevector(h, h, 0, 1, 2, 3) + __builtin_shufflevector(h, h, 4, 5, 6, 7);
  return (q[0] + q[2]) + (q[1] + q[3]);
}
FWL_INLINE double lane_sum(const Vector<double>& v) {
  const auto h = __builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7);
  return (h[0] + h[2]) + (h[1] + h[3]);
}

// out[r] = <w, x_r> for R rows x, `stride` apart: two vectors of partial sums per row, then their lanes, then
// the rest. The same operations for every R.
template <int R, typename T>
FWL_INLINE void dot_rows(const T* w, const T* x, int64_t stride, int64_t k, T* out, int64_t out_stride) {
  constexpr int64_t L = kLanes<T>;
  Vector<T> even[R] = {}, odd[R] = {};
  int64_t i = 0;
  for (; i + 2 * L <= k; i += 2 * L) {
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      even[r] += vector_at(w + i) * vector_at(x + r * stride + i);
      odd[r] += vector_at(w + i + L) * vector_at(x + r * stride + i + L);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    T sum = lane_sum(even[r] + odd[r]);
    for (int64_t j = i; j < k; ++j) sum += w[j] * x[r * stride + j];
    out[r * out_stride] = sum;
  }
}

// Weight rows [m0, m1) against n rows, in tiles of weights that stay in cache.
template <typename T>
FWL_INLINE void product_range(const T* x, int64_t n, int64_t k, const T* w, const T* bias, int64_t m,
                              int64_t m0, int64_t m1, T* out) {
  constexpr int64_t kTile = 16;
  for (int64_t tile = m0; tile < m1; tile += kTile) {
    const int64_t end = std::min(m1, tile + kTile);
    int64_t r = 0;
    for (; r + 4 <= n; r += 4)
      for (int64_t j = tile; j < end; ++j) dot_rows<4>(w + j * k, x + r * k, k, k, out + r * m + j, m);
    for (; r < n; ++r)
      for (int64_t j = tile; j < end; ++j) dot_rows<1>(w + j * k, x + r * k, k, k, out + r * m + j, m);
    if (bias == nullptr) continue;
    for (r = 0; r < n; ++r)
      for (int64_t j = tile; j < end; ++j) out[r * m + j] += bias[j];
  }
}
FWL_WIDE void product_range_float(const float* x, int64_t n, int64_t k, const float* w, const float* bias,
                                  int64_t m, int64_t m0, int64_t m1, float* out) {
  product_range(x, n, k, w, bias, m, m0, m1, out);
}
FWL_WIDE void product_range_double(const double* x, int64_t n, int64_t k, const double* w, const double* bias,
                                   int64_t m, int64_t m0, int64_t m1, double* out) {
  product_range(x, n, k, w, bias, m, m0, m1, out);
}

// Weight rows [m0, m1), in order, onto two vectors of columns from `column` on, of R rows.
template <int R, typename T>
FWL_INLINE void add_column_sums(const T* x, int64_t m, const T* w, int64_t k, int64_t column, int64_t m0,
                                int64_t m1, T* out) {
  constexpr int64_t L = kLanes<T>;
  Vector<T> left[R], right[R];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    left[r] = vector_at(out + r * k + column);
    right[r] = vector_at(out + r * k + column + L);
  }
  for (int64_t j = m0; j < m1; ++j) {
    const T* row = w + j * k + column;
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      left[r] += x[r * m + j] * vector_at(row);
      right[r] += x[r * m + j] * vector_at(row + L);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    vector_at(out + r * k + column) = left[r];
    vector_at(out + r * k + column + L) = right[r];
  }
}

// Columns [k0, k1) of the result, which is zero before; weight rows in tiles that stay in cache.
template <typename T>
FWL_INLINE void transposed_range(const T* x, int64_t n, int64_t m, const T* w, int64_t k, int64_t k0,
                                 int64_t k1, T* out) {
  constexpr int64_t kStep = 2 * kLanes<T>, kTileBytes = 1 << 17;
  const int64_t tile = std::max<int64_t>(8, kTileBytes / (k * static_cast<int64_t>(sizeof(T))));
  for (int64_t m0 = 0; m0 < m; m0 += tile) {
    const int64_t m1 = std::min(m, m0 + tile);
    int64_t column = k0;
    for (; column + kStep <= k1; column += kStep) {
      int64_t r = 0;
      for (; r + 4 <= n; r += 4) add_column_sums<4>(x + r * m, m, w, k, column, m0, m1, out + r * k);
      for (; r < n; ++r) add_column_sums<1>(x + r * m, m, w, k, column, m0, m1, out + r * k);
    }
    for (; column < k1; ++column)
      for (int64_t r = 0; r < n; ++r)
        for (int64_t j = m0; j < m1; ++j) out[r * k + column] += x[r * m + j] * w[j * k + column];
  }
}
FWL_WIDE void transposed_range_float(const float* x, int64_t n, int64_t m, const float* w, int64_t k,
                                     int64_t k0, int64_t k1, float* out) {
  transposed_range(x, n, m, w, k, k0, k1, out);
}
FWL_WIDE void transposed_range_double(const double* x, int64_t n, int64_t m, const double* w, int64_t k,
                                      int64_t k0, int64_t k1, double* out) {
  transposed_range(x, n, m, w, k, k0, k1, out);
}

// State rows [v0, v1): a row stays in cache while all tokens are added.
template <typename T>
FWL_INLINE void outer_range(T* state, int64_t k, const T* decay_t, const T* v_tv, int64_t v_stride,
                            const T* k_tk, int64_t tokens, int64_t v0, int64_t v1) {
  constexpr int64_t L = kLanes<T>;
  for (int64_t row = v0; row < v1; ++row) {
    T* s = state + row * k;
    for (int64_t t = 0; t < tokens; ++t) {
      const T decay = decay_t[t], value = v_tv[t * v_stride + row];
      const T* key = k_tk + t * k;
      int64_t i = 0;
      for (; i + L <= k; i += L) vector_at(s + i) = decay * vector_at(s + i) + value * vector_at(key + i);
      for (; i < k; ++i) s[i] = decay * s[i] + value * key[i];
    }
  }
}
FWL_WIDE void outer_range_float(float* state, int64_t k, const float* decay_t, const float* v_tv,
                                int64_t v_stride, const float* k_tk, int64_t tokens, int64_t v0, int64_t v1) {
  outer_range(state, k, decay_t, v_tv, v_stride, k_tk, tokens, v0, v1);
}
FWL_WIDE void outer_range_double(double* state, int64_t k, const double* decay_t, const double* v_tv,
                                 int64_t v_stride, const double* k_tk, int64_t tokens, int64_t v0,
                                 int64_t v1) {
  outer_range(state, k, decay_t, v_tv, v_stride, k_tk, tokens, v0, v1);
}

// One query over `count` positions from `oldest` on, in their order. `score` has room for them.
template <typename T>
FWL_INLINE void attend_one(const T* q, const T* key_ce, const T* value_ce, int64_t slots, int64_t e,
                           int64_t oldest, int64_t count, T* score, T* out) {
  const T scale = 1 / std::sqrt(static_cast<T>(e));
  T largest = -std::numeric_limits<T>::infinity();
  for (int64_t j = 0; j < count; ++j) {
    dot_rows<1>(q, key_ce + (oldest + j) % slots * e, e, e, score + j, 1);
    score[j] *= scale;
    largest = std::max(largest, score[j]);
  }
  T sum = 0;
  for (int64_t i = 0; i < e; ++i) out[i] = 0;
  for (int64_t j = 0; j < count; ++j) {
    const T weight = std::exp(score[j] - largest);
    const T* value = value_ce + (oldest + j) % slots * e;
    sum += weight;
    for (int64_t i = 0; i < e; ++i) out[i] += weight * value[i];
  }
  for (int64_t i = 0; i < e; ++i) out[i] /= sum;
}
FWL_WIDE void attend_one_float(const float* q, const float* key_ce, const float* value_ce, int64_t slots,
                               int64_t e, int64_t oldest, int64_t count, float* score, float* out) {
  attend_one(q, key_ce, value_ce, slots, e, oldest, count, score, out);
}
FWL_WIDE void attend_one_double(const double* q, const double* key_ce, const double* value_ce, int64_t slots,
                                int64_t e, int64_t oldest, int64_t count, double* score, double* out) {
  attend_one(q, key_ce, value_ce, slots, e, oldest, count, score, out);
}

// The functions of one element type.
template <typename T>
struct Ranges;
template <>
struct Ranges<float> {
  static constexpr auto product = product_range_float;
  static constexpr auto transposed = transposed_range_float;
  static constexpr auto outer = outer_range_float;
  static constexpr auto attend = attend_one_float;
};
template <>
struct Ranges<double> {
  static constexpr auto product = product_range_double;
  static constexpr auto transposed = transposed_range_double;
  static constexpr auto outer = outer_range_double;
  static constexpr auto attend = attend_one_double;
};

bool has_own_kernel(const Tensor& t) {
  return t.is_cpu() && (t.scalar_type() == at::kFloat || t.scalar_type() == at::kDouble);
}

template <typename Visit>
void with_type(const Tensor& t, Visit visit) {
  t.scalar_type() == at::kDouble ? visit(double{}) : visit(float{});
}

// Rows of work per thread, so that a thread has at least some thousand multiplications.
int64_t grain_of(int64_t products_per_row) {
  return std::max<int64_t>(1, 32768 / std::max<int64_t>(1, products_per_row));
}

}  // namespace

Tensor row_product(const Tensor& any_x_nk, const Tensor& any_w_mk, const Tensor& bias_m) {
  if (!has_own_kernel(any_w_mk)) return by_aten::row_product(any_x_nk, any_w_mk, bias_m);
  const Tensor x_nk = any_x_nk.contiguous(), w_mk = any_w_mk.contiguous();
  const int64_t n = x_nk.size(0), k = x_nk.size(1), m = w_mk.size(0);
  require<InternalError>(w_mk.size(1) == k && x_nk.scalar_type() == w_mk.scalar_type(), "row_product got ",
                         x_nk.sizes(), " and ", w_mk.sizes());
  Tensor out_nm = at::empty({n, m}, x_nk.options());
  with_type(x_nk, [&](auto zero) {
    using T = decltype(zero);
    const T* bias = bias_m.defined() ? bias_m.const_data_ptr<T>() : nullptr;
    at::parallel_for(0, m, grain_of(n * k), [&](int64_t begin, int64_t end) {
      Ranges<T>::product(x_nk.const_data_ptr<T>(), n, k, w_mk.const_data_ptr<T>(), bias, m, begin, end,
                         out_nm.mutable_data_ptr<T>());
    });
  });
  return out_nm;
}

Tensor row_product_transposed(const Tensor& any_x_nm, const Tensor& any_w_mk) {
  if (!has_own_kernel(any_w_mk)) return by_aten::row_product_transposed(any_x_nm, any_w_mk);
  const Tensor x_nm = any_x_nm.contiguous(), w_mk = any_w_mk.contiguous();
  const int64_t n = x_nm.size(0), m = x_nm.size(1), k = w_mk.size(1);
  require<InternalError>(w_mk.size(0) == m && x_nm.scalar_type() == w_mk.scalar_type(),
                         "row_product_transposed got ", x_nm.sizes(), " and ", w_mk.sizes());
  Tensor out_nk = at::zeros({n, k}, x_nm.options());
  with_type(x_nm, [&](auto zero) {
    using T = decltype(zero);
    constexpr int64_t kStep = 2 * kLanes<T>;
    at::parallel_for(0, (k + kStep - 1) / kStep, grain_of(n * m * kStep), [&](int64_t begin, int64_t end) {
      Ranges<T>::transposed(x_nm.const_data_ptr<T>(), n, m, w_mk.const_data_ptr<T>(), k, begin * kStep,
                            std::min(k, end * kStep), out_nk.mutable_data_ptr<T>());
    });
  });
  return out_nk;
}

void add_outer_products_(Tensor& state_vk, const std::vector<double>& decay_t, const Tensor& any_v_tv,
                         const Tensor& any_k_tk) {
  if (!has_own_kernel(state_vk)) return by_aten::add_outer_products_(state_vk, decay_t, any_v_tv, any_k_tk);
  const Tensor v_tv = any_v_tv.contiguous(), k_tk = any_k_tk.contiguous();
  const int64_t tokens = v_tv.size(0), v = state_vk.size(0), k = state_vk.size(1);
  require<InternalError>(state_vk.is_contiguous() && v_tv.size(1) == v && k_tk.size(1) == k &&
                             k_tk.size(0) == tokens && static_cast<int64_t>(decay_t.size()) == tokens,
                         "add_outer_products_ got ", state_vk.sizes(), ", ", v_tv.sizes(), ", ",
                         k_tk.sizes());
  with_type(state_vk, [&](auto zero) {
    using T = decltype(zero);
    const std::vector<T> decay(decay_t.begin(), decay_t.end());
    at::parallel_for(0, v, grain_of(tokens * k), [&](int64_t begin, int64_t end) {
      Ranges<T>::outer(state_vk.mutable_data_ptr<T>(), k, decay.data(), v_tv.const_data_ptr<T>(), v,
                       k_tk.const_data_ptr<T>(), tokens, begin, end);
    });
  });
}

Tensor attend_ring(AttentionRing& ring, const Tensor& any_q_the, const Tensor& any_k_the,
                   const Tensor& any_v_the, int64_t first_position, int64_t reach) {
  if (!has_own_kernel(ring.key_hce))
    return by_aten::attend_ring(ring, any_q_the, any_k_the, any_v_the, first_position, reach);
  const Tensor q = any_q_the.contiguous(), k = any_k_the.contiguous(), v = any_v_the.contiguous();
  const int64_t tokens = q.size(0), heads = q.size(1), e = q.size(2), slots = ring.key_hce.size(1);
  require<InternalError>(reach <= slots && ring.key_hce.is_contiguous() && ring.value_hce.is_contiguous(),
                         "attend_ring got a reach of ", reach, " and ", slots, " slots");
  Tensor out = at::empty_like(q);
  with_type(q, [&](auto zero) {
    using T = decltype(zero);
    at::parallel_for(0, heads, grain_of(tokens * std::min(first_position + tokens, reach) * e * 2),
                     [&](int64_t begin, int64_t end) {
                       std::vector<T> score(static_cast<size_t>(reach));
                       for (int64_t h = begin; h < end; ++h) {
                         T* key_ce = ring.key_hce.mutable_data_ptr<T>() + h * slots * e;
                         T* value_ce = ring.value_hce.mutable_data_ptr<T>() + h * slots * e;
                         for (int64_t t = 0; t < tokens; ++t) {
                           const int64_t position = first_position + t, count = std::min(position + 1, reach);
                           const int64_t row = (t * heads + h) * e;
                           std::copy_n(k.const_data_ptr<T>() + row, e, key_ce + position % slots * e);
                           std::copy_n(v.const_data_ptr<T>() + row, e, value_ce + position % slots * e);
                           Ranges<T>::attend(q.const_data_ptr<T>() + row, key_ce, value_ce, slots, e,
                                             position + 1 - count, count, score.data(),
                                             out.mutable_data_ptr<T>() + row);
                         }
                       }
                     });
  });
  return out;
}

}  // namespace fwl
