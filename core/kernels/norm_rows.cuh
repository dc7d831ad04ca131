// What the kernels over rows of norms share. A row belongs to a group of warps, in most models to one; a
// block's groups take rows in turns, and copy the next ones into shared memory while they work, each lane the
// columns that it reads itself: memory is far, and nobody waits for another. Sums over rows, for the
// gradients of scale and bias, are made over a group's rows in registers, over a block's groups in shared
// memory in fixed order, and over blocks by partial_sums.cu: the same bits every time. Device code and the
// launchers' choice of form; for .cu files alone.
#pragma once

#include <algorithm>

#include "core/kernels/device.cuh"
#include "core/kernels/fused_shapes.h"
#include "core/kernels/instructions.cuh"

namespace fwl::cuda {

constexpr int kWarps = 8, kThreads = kWarps * 32;  // of a block
constexpr int kMostVectors = static_cast<int>(kMostNormVectors);

// Of a lane in a group of kGroup warps: the vectors l, l + 32 kGroup, ... of the row, kVectors of them at
// most.
template <typename OfRows, int kOfRow, int kGroup>
struct Lane {
  using Scalar = OfRows;
  using A = AccumulateOf<Scalar>;
  static constexpr int kVectors = kOfRow;
  static constexpr int kCount = kVector<Scalar>;
  static constexpr int kGroups = kWarps / kGroup;  // of a block
  using Columns = Vector<Scalar, kCount>;

  static __device__ int group() { return static_cast<int>(threadIdx.x) / (32 * kGroup); }
  static __device__ int column(int i) {
    return (i * 32 * kGroup + static_cast<int>(threadIdx.x) % (32 * kGroup)) * kCount;
  }
  // Shared memory for sums over the block's groups.
  static size_t sums_bytes(int64_t width) { return static_cast<size_t>(kGroups * width) * sizeof(A); }
  // Calls visit(vector, column) for the columns that exist.
  template <typename Visit>
  static __device__ void for_each(int width, Visit visit) {
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      if (column(i) < width) visit(i, column(i));
    }
  }
};

// Rows that are on their way: kStages of them of kTensors tensors, those of a lane beside nobody else's.
template <typename L, int kTensors, int kStages>
struct Queue {
  static constexpr size_t kBytes = size_t{16} * kStages * kTensors * L::kVectors * kThreads;
  typename L::Columns* own;
  const typename L::Scalar* from[kTensors];  // null: none
  int64_t rows;
  int width;

  __device__ typename L::Columns& at(int stage, int tensor, int i) const {
    return own[((stage * kTensors + tensor) * L::kVectors + i) * kThreads + static_cast<int>(threadIdx.x)];
  }
  // Also of a row that does not exist: what waits counts calls.
  __device__ void fetch(int stage, int64_t row) const {
    if (row < rows) {
#pragma unroll
      for (int t = 0; t < kTensors; ++t) {
        if (from[t] == nullptr) continue;
        L::for_each(width, [&](int i, int column) {
          copy_async_16(&at(stage, t, i), from[t] + row * width + column);
        });
      }
    }
    commit_copies();
  }
};

// Sums of kSums values over the group's threads, of which every thread of the block calls it: the same bits
// for all of them. `turn` flips, so that no sum is written before it is read.
template <int kGroup, int kSums, typename A>
__device__ void sum_over_group(A (&value)[kSums], int& turn) {
#pragma unroll
  for (int k = 0; k < kSums; ++k) value[k] = warp_sum(value[k]);
  if constexpr (kGroup > 1) {
    __shared__ A of_warp[2][kWarps][kSums];
    const int warp = static_cast<int>(threadIdx.x) / 32, first = warp / kGroup * kGroup;
    if (threadIdx.x % 32 == 0) {
#pragma unroll
      for (int k = 0; k < kSums; ++k) of_warp[turn][warp][k] = value[k];
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < kSums; ++k) {
      value[k] = of_warp[turn][first][k];
#pragma unroll
      for (int w = 1; w < kGroup; ++w) value[k] += of_warp[turn][first + w][k];
    }
    turn ^= 1;
  }
}

// Writes the block's row of `partial`: sums of the groups' `own`, in order, by way of `shared`.
template <typename L, typename A, int kVectors>
__device__ void sum_over_groups(const A (&own)[kVectors][L::kCount], A* shared, A* partial, int width) {
  __syncthreads();
  L::for_each(width, [&](int i, int column) {
#pragma unroll
    for (int e = 0; e < L::kCount; ++e) shared[L::group() * width + column + e] = own[i][e];
  });
  __syncthreads();
  for (int c = static_cast<int>(threadIdx.x); c < width; c += kThreads) {
    A sum = shared[c];
    for (int g = 1; g < L::kGroups; ++g) sum += shared[g * width + c];
    partial[static_cast<int64_t>(blockIdx.x) * width + c] = sum;
  }
}

// Calls `launch` with constants: vectors of a row in a lane, and warps of a row.
template <typename Scalar, typename Launch>
void for_width(int64_t width, Launch launch) {
  const auto call = [&](auto vectors, auto group) { launch(vectors, group); };
  constexpr std::integral_constant<int, 1> k1;
  constexpr std::integral_constant<int, 2> k2;
  constexpr std::integral_constant<int, 3> k3;
  constexpr std::integral_constant<int, 4> k4;
  const int64_t needed = (width / kVector<Scalar> + 31) / 32;
  if (needed <= 1) return call(k1, k1);
  if (needed <= 2) return call(k2, k1);
  if (needed <= 3) return call(k3, k1);
  if (needed <= 4) return call(k4, k1);
  if (needed <= 6) return call(k3, k2);
  if (needed <= 8) return call(k4, k2);
  if (needed <= 12) return call(k3, k4);
  return call(k4, k4);
}

inline int64_t multiprocessors() {
  int device = 0, count = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device);
  return std::max(1, count);
}

// Blocks for `rows` rows, `most` of them on a multiprocessor.
inline unsigned blocks_of(int64_t rows, int64_t groups, int64_t most) {
  return static_cast<unsigned>(
      std::clamp<int64_t>((rows + groups - 1) / groups, 1, most * multiprocessors()));
}

}  // namespace fwl::cuda
