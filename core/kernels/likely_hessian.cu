// A thread takes vectors of columns of what is as wide as x; a warp takes a listed row of the unembedding for
// its product with u; a thread takes a vector of columns for the sum over the list. Sums are in a fixed
// order: so are the bits.
#include <algorithm>

#include "core/kernels/likely_hessian.cu.h"
#include "core/kernels/logit_rows.cuh"

namespace fwl::cuda {
namespace {

constexpr int kRowUnroll = 4;          // rows that a thread has under way
constexpr int kThreads = 128;          // of a block, which has a row: several share a multiprocessor
constexpr int kProductThreads = 1024;  // a frequent token is in the lists of most rows
constexpr int kProductBlocks = 1024;   // each takes one listed token after the other

// <a, b> over a warp; every lane gets it.
template <int kColumns, typename Scalar>
__device__ AccumulateOf<Scalar> warp_dot(const Scalar* a, const Scalar* b, int vectors) {
  AccumulateOf<Scalar> sum = 0;
  for (int c = threadIdx.x % 32; c < vectors; c += 32) {
    const Vector<Scalar, kColumns> x = load_vector<kColumns>(a + c * kColumns),
                                   y = load_vector<kColumns>(b + c * kColumns);
#pragma unroll
    for (int e = 0; e < kColumns; ++e) sum += widen(x.at[e]) * widen(y.at[e]);
  }
  return warp_sum(sum);
}

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

// kColumns: elements read at once.
template <typename Scalar, int kColumns>
__global__ void __launch_bounds__(kThreads) likely_hessian_kernel(const LikelyHessianArguments a) {
  using A = AccumulateOf<Scalar>;
  const int64_t t = blockIdx.x, at = t * a.width;
  const Scalar *const x = static_cast<const Scalar*>(a.x_nd) + at,
                      *const u = static_cast<const Scalar*>(a.u_nd) + at,
                      *const q = static_cast<const Scalar*>(a.q_nd) + at;
  const Scalar* const weight_vd = static_cast<const Scalar*>(a.unembedding_vd);
  const Scalar* const own = weight_vd + a.label_n[t] * a.width;
  const int32_t* const token = a.token_nk + t * a.places;
  const A* const probability = static_cast<const A*>(a.probability_nk) + t * a.places;
  A* const h = static_cast<A*>(a.h_nk) + t * a.places;
  const A w = static_cast<const A*>(a.weight_n)[t], l = static_cast<const A*>(a.nll_bar_n)[t];
  const int vectors = static_cast<int>(a.width / kColumns), places = static_cast<int>(a.places);

  int mine = 0;
  for (int k = threadIdx.x; k < places; k += kThreads) mine += token[k] >= 0 ? 1 : 0;
  const int count = block_sum<kThreads>(mine);
  A of_q = 0, of_label = 0;  // <u, q>, <u, E_label>
  for (int c = threadIdx.x; c < vectors; c += kThreads) {
    const int first = c * kColumns;
    const Vector<Scalar, kColumns> xs = load_vector<kColumns>(x + first),
                                   us = load_vector<kColumns>(u + first),
                                   qs = load_vector<kColumns>(q + first),
                                   owns = load_vector<kColumns>(own + first);
    Vector<Scalar, kColumns> factor;
#pragma unroll
    for (int e = 0; e < kColumns; ++e) {
      factor.at[e] = narrow<Scalar>(l * widen(xs.at[e]) + w * widen(us.at[e]));
      of_q += widen(us.at[e]) * widen(qs.at[e]);
      of_label += widen(us.at[e]) * widen(owns.at[e]);
    }
    store_vector(static_cast<Scalar*>(a.factor_nd) + at + first, factor);
  }
  of_q = block_sum<kThreads>(of_q);
  const A mean = of_q + block_sum<kThreads>(of_label);
  if (threadIdx.x == 0) static_cast<A*>(a.weight_bar_n)[t] = of_q;

  for (int k = threadIdx.x / 32; k < count; k += kThreads / 32) {
    const A e = warp_dot<kColumns>(weight_vd + token[k] * a.width, u, vectors);
    if (threadIdx.x % 32 == 0) h[k] = w * probability[k] * (e - mean);
  }
  for (int k = count + static_cast<int>(threadIdx.x); k < places; k += kThreads) h[k] = 0;
  __syncthreads();

  for (int c = threadIdx.x; c < vectors; c += kThreads) {
    const int first = c * kColumns;
    const Vector<Scalar, kColumns> qs = load_vector<kColumns>(q + first);
    A sum[kColumns];
#pragma unroll
    for (int e = 0; e < kColumns; ++e) sum[e] = l * widen(qs.at[e]);
    add_rows<kColumns, Scalar>(
        sum, 0, count, 1, [&](int64_t k) { return weight_vd + token[k] * a.width + first; },
        [&](int64_t k) { return h[k]; });
    Vector<Scalar, kColumns> x_bar;
#pragma unroll
    for (int e = 0; e < kColumns; ++e) x_bar.at[e] = narrow<Scalar>(sum[e]);
    store_vector(static_cast<Scalar*>(a.x_bar_nd) + at + first, x_bar);
  }
}

// Tokens that are in some list, in any order.
__global__ void __launch_bounds__(kThreads) listed_tokens_kernel(const ListedProductsArguments a) {
  const int64_t v = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (v < a.vocabulary && a.first_v[v] < a.first_v[v + 1]) a.listed[atomicAdd(a.listed_count, 1)] = v;
}

template <typename Scalar, int kColumns>
__device__ void add_products_of(const ListedProductsArguments& a, int64_t v) {
  using A = AccumulateOf<Scalar>;
  extern __shared__ __align__(16) unsigned char stage_bytes[];
  A* const partial = reinterpret_cast<A*>(stage_bytes);  // [groups][lanes][kColumns]
  const int64_t begin = a.first_v[v], end = a.first_v[v + 1];
  const int vectors = static_cast<int>(a.width / kColumns), lanes = min(vectors, kProductThreads);
  const int groups = kProductThreads / lanes, group = threadIdx.x / lanes, lane = threadIdx.x % lanes;
  const A* const h = static_cast<const A*>(a.h_nk);
  for (int first = 0; first < vectors; first += lanes) {
    const int column = (first + lane) * kColumns;
    const bool works = group < groups && first + lane < vectors;
    A sum[kColumns] = {};
    if (works) {
      add_rows<kColumns, Scalar>(
          sum, begin + group, end, groups,
          [&](int64_t i) {
            return static_cast<const Scalar*>(a.x_nd) + a.pair[i] / a.places * a.width + column;
          },
          [&](int64_t i) { return h[a.pair[i]]; });
      A* const to = partial + (group * lanes + lane) * kColumns;
#pragma unroll
      for (int e = 0; e < kColumns; ++e) to[e] = sum[e];
    }
    __syncthreads();
    if (works && group == 0) {
      A* const out = static_cast<A*>(a.sum_vd) + v * a.width + column;
      for (int e = 0; e < kColumns; ++e) {
        A all = 0;
        for (int g = 0; g < groups; ++g) all += partial[(g * lanes + lane) * kColumns + e];
        out[e] += all;
      }
    }
    __syncthreads();
  }
}

template <typename Scalar, int kColumns>
__global__ void __launch_bounds__(kProductThreads) listed_products_kernel(const ListedProductsArguments a) {
  const int count = *a.listed_count;
  for (int i = blockIdx.x; i < count; i += gridDim.x) add_products_of<Scalar, kColumns>(a, a.listed[i]);
}

}  // namespace

cudaError_t launch_likely_hessian(ScalarType type, const LikelyHessianArguments& a, cudaStream_t stream) {
  if (a.rows == 0) return cudaSuccess;
  return dispatch(type, [&](auto* tag) {
    using Scalar = std::remove_pointer_t<decltype(tag)>;
    const bool wide = on_vectors(a.x_nd, a.u_nd, a.q_nd, a.unembedding_vd, a.x_bar_nd, a.factor_nd);
    choose_columns<Scalar>(a.width, wide, [&](auto columns) {
      const auto kernel = likely_hessian_kernel<Scalar, decltype(columns)::value>;
      kernel<<<static_cast<unsigned>(a.rows), kThreads, 0, stream>>>(a);
    });
  });
}

cudaError_t launch_listed_products(ScalarType type, const ListedProductsArguments& a, cudaStream_t stream) {
  if (a.vocabulary == 0) return cudaSuccess;
  return dispatch(type, [&](auto* tag) {
    using Scalar = std::remove_pointer_t<decltype(tag)>;
    using A = AccumulateOf<Scalar>;
    const auto blocks = static_cast<unsigned>((a.vocabulary + kThreads - 1) / kThreads);
    listed_tokens_kernel<<<blocks, kThreads, 0, stream>>>(a);
    choose_columns<Scalar>(a.width, on_vectors(a.x_nd), [&](auto columns) {
      const auto kernel = listed_products_kernel<Scalar, decltype(columns)::value>;
      const size_t bytes = kProductThreads * decltype(columns)::value * sizeof(A);
      allow_stage(kernel, bytes);
      const auto most = static_cast<unsigned>(std::min<int64_t>(a.vocabulary, kProductBlocks));
      kernel<<<most, kProductThreads, bytes, stream>>>(a);
    });
  });
}

}  // namespace fwl::cuda
