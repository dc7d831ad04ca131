// The row is read once: every thread counts its likely tokens and remembers which of its vectors hold them, a
// prefix sum gives each its place, and the vectors that hold some are read again. Then a warp takes a listed
// row of the unembedding for its product with u, and a thread takes a vector of columns for the sum over the
// list. Sums are in a fixed order: so are the bits.
#include <algorithm>

#include "core/kernels/likely_hessian.cu.h"
#include "core/kernels/logit_rows.cuh"

namespace fwl::cuda {
namespace {

constexpr int kRowUnroll = 4;          // rows that a thread has under way
constexpr int kThreads = 128;          // of a block, which has a row: several share a multiprocessor
constexpr int kProductThreads = 1024;  // a frequent token is in the lists of most rows
constexpr int kProductBlocks = 1024;   // each takes one listed token after the other

// Where a row's label is listed: its residual is p - 1.
struct LabelBit {
  int vector;
  unsigned bit;  // in that vector; 0: the label is not likely
};

// The likely tokens in vector v of a row of residuals, a bit each. Nearly all vectors hold none.
template <int kCount, typename Scalar>
__device__ unsigned likely_bits(int v, const Vector<Scalar, kCount>& residual, LabelBit label,
                                AccumulateOf<Scalar> threshold) {
  const unsigned bits = largest_of(residual) < threshold ? 0 : bits_above(residual, threshold);
  return v == label.vector ? bits | label.bit : bits;
}

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

// kCount: elements of the residuals read at once; kColumns: of a row of the unembedding.
template <typename Scalar, int kCount, int kColumns>
__global__ void __launch_bounds__(kThreads) likely_hessian_kernel(const LikelyHessianArguments a) {
  using A = AccumulateOf<Scalar>;
  const int64_t t = blockIdx.x;
  const int y = static_cast<int>(a.label_n[t]);
  const Scalar* const row = static_cast<const Scalar*>(a.residual_nv) + t * a.vocabulary;
  const Scalar* const weight_vd = static_cast<const Scalar*>(a.unembedding_vd);
  int32_t* const token = a.token_nk + t * a.places;
  A* const h = static_cast<A*>(a.h_nk) + t * a.places;
  const A w = static_cast<const A*>(a.weight_n)[t], threshold = static_cast<A>(a.threshold);
  int count = 0;
  if (w != 0) {
    const int vectors = static_cast<int>(a.vocabulary / kCount);
    const LabelBit label{y / kCount, widen(row[y]) + A(1) >= threshold ? 1u << y % kCount : 0u};
    MarkedVectors<kThreads> marked(vectors);
    int mine = 0;
    for_each_vector<kThreads, kCount>(row, vectors, [&](int v, const Vector<Scalar, kCount>& x) {
      if (const unsigned bits = likely_bits(v, x, label, threshold)) {
        mine += __popc(bits);
        marked.mark(v);
      }
    });
    int next = exclusive_sum<kThreads>(mine, &count);
    count = min(count, static_cast<int>(a.places));
    if (mine > 0) {
      marked.template for_each<kCount>(row, [&](int v, const Vector<Scalar, kCount>& x) {
        for_each_bit(likely_bits(v, x, label, threshold), [&](int e) {
          const int likely = v * kCount + e;
          if (next < count) token[next] = likely;
          if (next < count) h[next] = widen(row[likely]) + (likely == y ? A(1) : A(0));
          ++next;
        });
      });
    }
  }
  for (int64_t k = count + threadIdx.x; k < a.places; k += kThreads) {
    token[k] = -1;
    h[k] = 0;
  }
  __syncthreads();  // the list is whole

  const int vectors = static_cast<int>(a.width / kColumns);
  const Scalar* const u_row = static_cast<const Scalar*>(a.u_nd) + t * a.width;
  for (int k = threadIdx.x / 32; k < count; k += kThreads / 32) {
    const A e = warp_dot<kColumns>(weight_vd + token[k] * a.width, u_row, vectors);
    if (threadIdx.x % 32 == 0) h[k] *= w * (e - static_cast<const A*>(a.mean_n)[t]);
  }
  __syncthreads();

  A* const x_bar = static_cast<A*>(a.x_bar_nd) + t * a.width;
  for (int c = threadIdx.x; c < vectors; c += kThreads) {
    A sum[kColumns] = {};
    add_rows<kColumns, Scalar>(
        sum, 0, count, 1, [&](int64_t k) { return weight_vd + token[k] * a.width + c * kColumns; },
        [&](int64_t k) { return h[k]; });
#pragma unroll
    for (int e = 0; e < kColumns; ++e) x_bar[c * kColumns + e] = sum[e];
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
    choose_columns<Scalar>(a.vocabulary, on_vectors(a.residual_nv), [&](auto count) {
      choose_columns<Scalar>(a.width, on_vectors(a.unembedding_vd, a.u_nd), [&](auto columns) {
        const auto kernel = likely_hessian_kernel<Scalar, decltype(count)::value, decltype(columns)::value>;
        kernel<<<static_cast<unsigned>(a.rows), kThreads, 0, stream>>>(a);
      });
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
