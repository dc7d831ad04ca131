// One thread block a row of logits. The normaliser comes first, and the largest logit of every vector with
// it: the row itself need not stay on the multiprocessor, which then holds many rows. Then every thread
// counts its tokens above the threshold, in the few vectors that have some, a prefix sum over the threads
// gives each its place in a list, and groups of threads, as many as a row of the unembedding has vectors, add
// up the listed rows, one row a group at a time. The list's order and the groups' sums are the same in every
// run: so are the bits.
#include <algorithm>

#include "core/kernels/likely_gradient.cu.h"
#include "core/kernels/logit_rows.cuh"

namespace fwl::cuda {
namespace {

constexpr int kListed = 1024;              // tokens that are listed at once
constexpr int kRowUnroll = 4;              // rows of the unembedding that a group has under way
constexpr int kThreads = 128;              // few: many rows share a multiprocessor
constexpr size_t kMostLargest = 40 << 10;  // bytes of the largest logits of a row's vectors

template <typename A>
struct Listed {
  int token[kListed];
  A probability[kListed];
};

// What a thread adds up: its columns of the rows of the unembedding, and the rows' probabilities.
template <typename A, int kColumns>
struct Sums {
  A column[kColumns] = {};
  A mass = 0;
};

// Rows group, group + groups, ... of the list.
template <int kColumns, typename Scalar>
__device__ void add_listed(const Listed<AccumulateOf<Scalar>>& list, int count, const Scalar* columns,
                           int64_t width, int group, int groups, Sums<AccumulateOf<Scalar>, kColumns>& sums) {
  for (int first = group; first < count; first += groups * kRowUnroll) {
    Vector<Scalar, kColumns> loaded[kRowUnroll];
#pragma unroll
    for (int u = 0; u < kRowUnroll; ++u) {
      const int i = first + u * groups;
      if (i < count) loaded[u] = load_vector<kColumns>(columns + list.token[i] * width);
    }
#pragma unroll
    for (int u = 0; u < kRowUnroll; ++u) {
      const int i = first + u * groups;
      if (i >= count) continue;
      const AccumulateOf<Scalar> p = list.probability[i];
      sums.mass += p;
#pragma unroll
      for (int e = 0; e < kColumns; ++e) sums.column[e] += p * widen(loaded[u].at[e]);
    }
  }
}

// kCount: elements of the logits read at once; kColumns: of a row of the unembedding. With kKeepsLargest the
// largest logits begin the dynamic shared memory, else the row is read again. The groups' sums lie
// `partial_at` bytes into it: over those, where all columns are summed at once.
template <typename Scalar, int kCount, int kColumns, bool kKeepsLargest, int kThreads>
__global__ void __launch_bounds__(kThreads, 2 * kMostThreads / kThreads)
    likely_gradient_kernel(const LikelyGradientArguments a, size_t partial_at) {
  using A = AccumulateOf<Scalar>;
  extern __shared__ __align__(16) unsigned char shared_bytes[];
  __shared__ Listed<A> list;
  Scalar* const largest = reinterpret_cast<Scalar*>(shared_bytes);
  A* const partial = reinterpret_cast<A*>(shared_bytes + partial_at);  // [groups][lanes][kColumns + 1]
  const int64_t t = blockIdx.x, y = a.label_n[t];
  const Scalar* const row = static_cast<const Scalar*>(a.logits_nv) + t * a.vocabulary;
  const int row_vectors = static_cast<int>(a.vocabulary / kCount);
  const A log_sum =
      log_sum_of<kThreads, A, kCount>(row, row_vectors, [&](int v, const Vector<Scalar, kCount>& x) {
        if (kKeepsLargest) largest[v] = narrow<Scalar>(largest_of(x));
      });
  if (threadIdx.x == 0) static_cast<A*>(a.nll_n)[t] = log_sum - widen(row[y]);
  const A cut = log_sum + static_cast<A>(a.log_threshold);
  const ShiftedExponential<A> power(log_sum);
  LikelyRow<kThreads, A> likely(row_vectors, cut);
  const auto look_at = [&](int v, const Vector<Scalar, kCount>& x) { likely.look_at(v, x); };
  // A thread meets the vectors that it has read before: no barrier.
  if constexpr (kKeepsLargest) {
    for (int v = threadIdx.x; v < row_vectors; v += kThreads)
      if (!(widen(largest[v]) < cut)) look_at(v, load_vector<kCount>(row + v * kCount));
  } else {
    for_each_vector<kThreads, kCount>(row, row_vectors, look_at);
  }
  int total = 0;
  const int place = exclusive_sum<kThreads>(likely.count(), &total);

  const int vectors = static_cast<int>(a.width / kColumns), lanes = min(vectors, kThreads);
  const int groups = kThreads / lanes, group = threadIdx.x / lanes, lane = threadIdx.x % lanes;
  const Scalar* const weight = static_cast<const Scalar*>(a.unembedding_vd);
  Scalar* const out = static_cast<Scalar*>(a.gradient_nd) + t * a.width;
  const A scale = a.weight_n == nullptr ? A(1) : static_cast<const A*>(a.weight_n)[t];
  for (int first_vector = 0; first_vector < vectors; first_vector += lanes) {
    const int column = (first_vector + lane) * kColumns;
    const bool works = group < groups && first_vector + lane < vectors;
    Sums<A, kColumns> sums;
    for (int listed = 0; listed < total; listed += kListed) {
      int next = place - listed;
      likely.template for_each<kCount>(row, [&](int token, A logit) {
        if (next >= 0 && next < kListed) {
          list.token[next] = token;
          list.probability[next] = power(logit);
        }
        ++next;
      });
      __syncthreads();
      if (works)
        add_listed<kColumns>(list, min(kListed, total - listed), weight + column, a.width, group, groups,
                             sums);
      __syncthreads();  // the list is read before it is written again
    }
    if (works) {
      A* const to = partial + (group * lanes + lane) * (kColumns + 1);
#pragma unroll
      for (int e = 0; e < kColumns; ++e) to[e] = sums.column[e];
      to[kColumns] = sums.mass;
    }
    __syncthreads();
    if (works && group == 0) {
      const auto sum_of = [&](int e) {
        A sum = 0;
        for (int g = 0; g < groups; ++g) sum += partial[(g * lanes + lane) * (kColumns + 1) + e];
        return sum;
      };
      const A rest = max(A(1) - sum_of(kColumns), A(0));
      const A* const rest_row = static_cast<const A*>(a.rest_row_d) + column;
      const Vector<Scalar, kColumns> own = load_vector<kColumns>(weight + y * a.width + column);
      Vector<Scalar, kColumns> result;
      for (int e = 0; e < kColumns; ++e)
        result.at[e] = narrow<Scalar>(scale * (sum_of(e) + rest * rest_row[e] - widen(own.at[e])));
      store_vector(out + column, result);
      if (threadIdx.x == 0 && first_vector == 0) {
        a.kept_n[t] = total;
        static_cast<A*>(a.rest_n)[t] = rest;
      }
    }
    __syncthreads();
  }
}

}  // namespace

cudaError_t launch_likely_gradient(ScalarType type, const LikelyGradientArguments& a, cudaStream_t stream) {
  if (a.rows == 0) return cudaSuccess;
  return dispatch(type, [&](auto* tag) {
    using Scalar = std::remove_pointer_t<decltype(tag)>;
    using A = AccumulateOf<Scalar>;
    const bool wide_rows = on_vectors(a.unembedding_vd, a.gradient_nd);
    const auto launch = [&](auto count, auto keeps, auto threads, size_t kept_bytes) {
      constexpr int kOfBlock = decltype(threads)::value;
      choose_columns<Scalar>(a.width, wide_rows, [&](auto columns) {
        constexpr int kColumns = decltype(columns)::value;
        const auto kernel = likely_gradient_kernel<Scalar, decltype(count)::value, kColumns,
                                                   decltype(keeps)::value, kOfBlock>;
        const size_t sums = kOfBlock * (kColumns + 1) * sizeof(A);
        const bool over = a.width <= kOfBlock * kColumns;
        const size_t bytes = over ? std::max(kept_bytes, sums) : kept_bytes + sums;
        allow_shared(kernel, bytes);
        kernel<<<static_cast<unsigned>(a.rows), kOfBlock, bytes, stream>>>(a, over ? 0 : kept_bytes);
      });
    };
    constexpr std::integral_constant<int, kVector<Scalar>> kWide;
    const size_t largest = static_cast<size_t>(a.vocabulary / kWide) * sizeof(Scalar);
    if (a.vocabulary % kWide == 0 && on_vectors(a.logits_nv) && largest <= kMostLargest) {
      launch(kWide, std::true_type(), std::integral_constant<int, kThreads>(), (largest + 15) / 16 * 16);
    } else {
      choose_columns<Scalar>(a.vocabulary, on_vectors(a.logits_nv), [&](auto count) {
        launch(count, std::false_type(), std::integral_constant<int, kMostThreads>(), size_t{0});
      });
    }
  });
}

}  // namespace fwl::cuda
