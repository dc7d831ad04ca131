// One thread block a row of logits. The normaliser comes first; then every thread counts its tokens above the
// threshold, a prefix sum over the threads gives each its place in a list, and groups of threads, as many as
// a row of the unembedding has vectors, add up the listed rows, one row a group at a time. The list's order
// and the groups' sums are the same in every run: so are the bits.
#include <algorithm>

#include "core/kernels/likely_gradient.cu.h"
#include "core/kernels/logit_rows.cuh"

namespace fwl::cuda {
namespace {

constexpr int kListed = 1024;  // tokens that are listed at once
constexpr int kRowUnroll = 4;  // rows of the unembedding that a group has under way
constexpr int kShortRowThreads = 256;

template <typename Scalar>
struct Row {
  const Scalar* logits;  // staged or not
  AccumulateOf<Scalar> log_sum;
};

// The tokens of a vector above the cut, a bit each. Nearly all vectors hold none.
template <int kCount, typename Scalar>
__device__ unsigned likely_bits(const Vector<Scalar, kCount>& logits, AccumulateOf<Scalar> cut) {
  return largest_of(logits) < cut ? 0 : bits_above(logits, cut);
}

// What a thread adds up: its columns of the rows of the unembedding, and the rows' probabilities.
template <typename A, int kColumns>
struct Sums {
  A column[kColumns] = {};
  A mass = 0;
};

// Rows group, group + groups, ... of the list.
template <int kColumns, typename Scalar>
__device__ void add_listed(const Row<Scalar>& row, const int* list, int count, const Scalar* columns,
                           int64_t width, int group, int groups, Sums<AccumulateOf<Scalar>, kColumns>& sums) {
  using A = AccumulateOf<Scalar>;
  const ShiftedExponential<A> power(row.log_sum);
  for (int first = group; first < count; first += groups * kRowUnroll) {
    Vector<Scalar, kColumns> loaded[kRowUnroll];
    A p[kRowUnroll];
#pragma unroll
    for (int u = 0; u < kRowUnroll; ++u) {
      const int i = first + u * groups;
      p[u] = 0;
      if (i >= count) continue;
      p[u] = power(widen(row.logits[list[i]]));
      loaded[u] = load_vector<kColumns>(columns + list[i] * width);
    }
#pragma unroll
    for (int u = 0; u < kRowUnroll; ++u) {
      if (first + u * groups >= count) continue;
      sums.mass += p[u];
#pragma unroll
      for (int e = 0; e < kColumns; ++e) sums.column[e] += p[u] * widen(loaded[u].at[e]);
    }
  }
}

// kCount: elements of the logits read at once; kColumns: of a row of the unembedding. The groups' sums lie
// `partial_at` bytes into the dynamic shared memory, which may be in the stage where that is read no more.
template <typename Scalar, int kCount, int kColumns, bool kStaged, int kThreads>
__global__ void __launch_bounds__(kThreads, 2 * kMostThreads / kThreads)
    likely_gradient_kernel(const LikelyGradientArguments a, size_t partial_at) {
  using A = AccumulateOf<Scalar>;
  extern __shared__ __align__(16) unsigned char shared_bytes[];
  __shared__ int list[kListed];
  Scalar* const stage = reinterpret_cast<Scalar*>(shared_bytes);
  A* const partial = reinterpret_cast<A*>(shared_bytes + partial_at);  // [groups][lanes][kColumns + 1]
  const int64_t t = blockIdx.x, y = a.label_n[t];
  const Scalar* const global = static_cast<const Scalar*>(a.logits_nv) + t * a.vocabulary;
  const int row_vectors = static_cast<int>(a.vocabulary / kCount);
  const A log_sum =
      log_sum_of<kThreads, A, kCount>(global, row_vectors, [&](int v, const Vector<Scalar, kCount>& x) {
        if (kStaged) store_vector(stage + v * kCount, x);
      });
  if (threadIdx.x == 0) static_cast<A*>(a.nll_n)[t] = log_sum - widen(global[y]);
  __syncthreads();  // the stage is whole
  const Row<Scalar> row{kStaged ? stage : global, log_sum};
  const A cut = log_sum + static_cast<A>(a.log_threshold);
  int mine = 0, total = 0;
  MarkedVectors<kThreads> marked(row_vectors);
  for_each_vector<kThreads, kCount>(row.logits, row_vectors, [&](int v, const Vector<Scalar, kCount>& x) {
    if (const unsigned bits = likely_bits(x, cut)) {
      mine += __popc(bits);
      marked.mark(v);
    }
  });
  const int place = exclusive_sum<kThreads>(mine, &total);

  const int vectors = static_cast<int>(a.width / kColumns), lanes = min(vectors, kThreads);
  const int groups = kThreads / lanes, group = threadIdx.x / lanes, lane = threadIdx.x % lanes;
  const Scalar* const weight = static_cast<const Scalar*>(a.unembedding_vd);
  Scalar* const out = static_cast<Scalar*>(a.gradient_nd) + t * a.width;
  for (int first_vector = 0; first_vector < vectors; first_vector += lanes) {
    const int column = (first_vector + lane) * kColumns;
    const bool works = group < groups && first_vector + lane < vectors;
    Sums<A, kColumns> sums;
    for (int listed = 0; listed < total; listed += kListed) {
      int next = place - listed;
      if (mine > 0) {
        marked.template for_each<kCount>(row.logits, [&](int v, const Vector<Scalar, kCount>& x) {
          for_each_bit(likely_bits(x, cut), [&](int e) {
            if (next >= 0 && next < kListed) list[next] = v * kCount + e;
            ++next;
          });
        });
      }
      __syncthreads();
      if (works)
        add_listed<kColumns>(row, list, min(kListed, total - listed), weight + column, a.width, group, groups,
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
        result.at[e] = narrow<Scalar>(sum_of(e) + rest * rest_row[e] - widen(own.at[e]));
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
    const auto launch = [&](auto count, auto columns, auto staged, auto threads, size_t stage_bytes) {
      constexpr int kColumns = decltype(columns)::value, kThreads = decltype(threads)::value;
      const auto kernel =
          likely_gradient_kernel<Scalar, decltype(count)::value, kColumns, decltype(staged)::value, kThreads>;
      // Within the stage where all columns are summed at once and it is large enough: two blocks then share
      // a multiprocessor at vocabularies up to 50,000 in bfloat16.
      const size_t sums = kThreads * (kColumns + 1) * sizeof(A);
      const bool inside = a.width <= kThreads * kColumns && sums <= stage_bytes;
      const size_t bytes = inside ? stage_bytes : stage_bytes + sums;
      allow_stage(kernel, bytes);
      kernel<<<static_cast<unsigned>(a.rows), kThreads, bytes, stream>>>(a, inside ? 0 : stage_bytes);
    };
    choose_form<Scalar, kShortRowThreads>(
        a.vocabulary, on_vectors(a.logits_nv),
        [&](auto count, auto staged, auto threads, size_t stage_bytes) {
          choose_columns<Scalar>(a.width, wide_rows,
                                 [&](auto columns) { launch(count, columns, staged, threads, stage_bytes); });
        },
        kListed * sizeof(int) + kMostThreads * (kVector<Scalar> + 1) * sizeof(A));
  });
}

}  // namespace fwl::cuda
