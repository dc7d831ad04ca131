// The tokens that occur are listed first, so that blocks are started for them and not for the vocabulary;
// those with many pairs apart, whose rows several groups of threads share. Sums are in a fixed order: so are
// the bits.
#include <algorithm>

#include "core/kernels/device.cuh"
#include "core/kernels/row_sums.cuh"
#include "core/kernels/token_sums.cu.h"

namespace fwl::cuda {
namespace {

constexpr int kFew = 32;             // pairs of a token that one group adds up
constexpr int kFewThreads = 128;     // several blocks share a multiprocessor: a token's work is short
constexpr int kFewBlocks = 1 << 11;  // each takes one token after the other
constexpr int kManyThreads = 1024;   // a frequent token is in most rows
constexpr int kManyBlocks = 1 << 9;

// In any order.
__global__ void __launch_bounds__(kFewThreads) list_tokens_kernel(const TokenSumsArguments a) {
  const int64_t v = static_cast<int64_t>(blockIdx.x) * kFewThreads + threadIdx.x;
  if (v >= a.vocabulary) return;
  const int64_t pairs = a.first_v[v + 1] - a.first_v[v];
  if (pairs == 0) return;
  const int many = pairs > kFew ? 1 : 0;
  a.listed[many * a.vocabulary + atomicAdd(a.listed_count + many, 1)] = v;
}

// Every `groups`-th pair of token v from the `group`-th on.
template <typename Scalar, int kColumns>
__device__ void add_pairs(const TokenSumsArguments& a, int64_t v, int group, int groups, int column,
                          AccumulateOf<Scalar>* sum) {
  const auto* const factor = static_cast<const AccumulateOf<Scalar>*>(a.factor_nk);
  add_rows<kColumns, Scalar>(
      sum, a.first_v[v] + group, a.first_v[v + 1], groups,
      [&](int64_t i) { return static_cast<const Scalar*>(a.x_nd) + a.pair[i] / a.places * a.width + column; },
      [&](int64_t i) { return factor[a.pair[i]]; });
}

template <typename Scalar, int kColumns>
__global__ void __launch_bounds__(kFewThreads) few_pairs_kernel(const TokenSumsArguments a) {
  using A = AccumulateOf<Scalar>;
  const int count = a.listed_count[0];
  for (int i = blockIdx.x; i < count; i += gridDim.x) {
    const int64_t v = a.listed[i];
    for (int c = threadIdx.x * kColumns; c < a.width; c += kFewThreads * kColumns) {
      A sum[kColumns] = {};
      add_pairs<Scalar, kColumns>(a, v, 0, 1, c, sum);
      A* const out = static_cast<A*>(a.sum_vd) + v * a.width + c;
#pragma unroll
      for (int e = 0; e < kColumns; ++e) out[e] += sum[e];
    }
  }
}

template <typename Scalar, int kColumns>
__device__ void add_many_pairs(const TokenSumsArguments& a, int64_t v) {
  using A = AccumulateOf<Scalar>;
  extern __shared__ __align__(16) unsigned char stage_bytes[];
  A* const partial = reinterpret_cast<A*>(stage_bytes);  // [groups][lanes][kColumns]
  const int vectors = static_cast<int>(a.width / kColumns), lanes = min(vectors, kManyThreads);
  const int groups = kManyThreads / lanes, group = threadIdx.x / lanes, lane = threadIdx.x % lanes;
  for (int first = 0; first < vectors; first += lanes) {
    const int column = (first + lane) * kColumns;
    const bool works = group < groups && first + lane < vectors;
    A sum[kColumns] = {};
    if (works) {
      add_pairs<Scalar, kColumns>(a, v, group, groups, column, sum);
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
__global__ void __launch_bounds__(kManyThreads) many_pairs_kernel(const TokenSumsArguments a) {
  const int count = a.listed_count[1];
  for (int i = blockIdx.x; i < count; i += gridDim.x)
    add_many_pairs<Scalar, kColumns>(a, a.listed[a.vocabulary + i]);
}

}  // namespace

cudaError_t launch_token_sums(ScalarType type, const TokenSumsArguments& a, cudaStream_t stream) {
  if (a.vocabulary == 0) return cudaSuccess;
  return dispatch(type, [&](auto* tag) {
    using Scalar = std::remove_pointer_t<decltype(tag)>;
    using A = AccumulateOf<Scalar>;
    const auto blocks = static_cast<unsigned>((a.vocabulary + kFewThreads - 1) / kFewThreads);
    list_tokens_kernel<<<blocks, kFewThreads, 0, stream>>>(a);
    choose_columns<Scalar>(a.width, on_vectors(a.x_nd), [&](auto columns) {
      const auto few = few_pairs_kernel<Scalar, decltype(columns)::value>;
      few<<<static_cast<unsigned>(std::min<int64_t>(a.vocabulary, kFewBlocks)), kFewThreads, 0, stream>>>(a);
      const auto many = many_pairs_kernel<Scalar, decltype(columns)::value>;
      const size_t bytes = kManyThreads * decltype(columns)::value * sizeof(A);
      allow_shared(many, bytes);
      many<<<static_cast<unsigned>(std::min<int64_t>(a.vocabulary, kManyBlocks)), kManyThreads, bytes,
             stream>>>(a);
    });
  });
}

}  // namespace fwl::cuda
