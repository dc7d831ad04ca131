// What the kernels over rows of norms share. One warp per row; lane l holds the vectors l, l + 32, ... of the
// row in registers, so that a row is read once. Device code and the launchers' choice of form; for .cu files
// alone.
#pragma once

#include <algorithm>

#include "core/kernels/device.cuh"

namespace fwl::cuda {

constexpr int kWarps = 8;
constexpr int kMostVectors = 16;  // per lane

// A row's part in the registers of one lane.
template <typename Scalar, int kVectors>
struct Row {
  using A = AccumulateOf<Scalar>;
  static constexpr int kCount = kVector<Scalar>;
  A at[kVectors][kCount];

  // Calls visit(vector, element, column) for the columns that exist.
  template <typename Visit>
  static __device__ void for_each(int width, Visit visit) {
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      if (column(i) >= width) continue;
#pragma unroll
      for (int e = 0; e < kCount; ++e) visit(i, e);
    }
  }
  static __device__ int column(int i) {
    return (i * 32 + static_cast<int>(threadIdx.x % 32)) * kCount;
  }

  // The row as it is in memory.
  struct Raw {
    Vector<Scalar, kCount> at[kVectors];
    __device__ void load(const Scalar* row, int width) {
#pragma unroll
      for (int i = 0; i < kVectors; ++i) {
        if (column(i) < width) at[i] = load_vector<kCount>(row + column(i));
      }
    }
  };
  __device__ void take(const Raw& raw, int width) {
    for_each(width, [&](int i, int e) { at[i][e] = widen(raw.at[i].at[e]); });
  }
  __device__ void load(const Scalar* row, int width) {
    Raw raw;
    raw.load(row, width);
    take(raw, width);
  }
  __device__ void store(Scalar* row, int width) const {
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      if (column(i) >= width) continue;
      Vector<Scalar, kCount> v;
#pragma unroll
      for (int e = 0; e < kCount; ++e) v.at[e] = narrow<Scalar>(at[i][e]);
      store_vector(row + column(i), v);
    }
  }
  // As the row will be read again: rounded to Scalar.
  __device__ void round() {
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
#pragma unroll
      for (int e = 0; e < kCount; ++e) at[i][e] = widen(narrow<Scalar>(at[i][e]));
    }
  }
  __device__ void clear() {
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
#pragma unroll
      for (int e = 0; e < kCount; ++e) at[i][e] = 0;
    }
  }
};

// Mean over the row of value(i, e).
template <typename R, typename Value>
__device__ typename R::A row_mean(int width, Value value) {
  typename R::A sum = 0;
  R::for_each(width, [&](int i, int e) { sum += value(i, e); });
  return warp_sum(sum) / static_cast<typename R::A>(width);
}

template <typename R, typename A>
__device__ void statistics(const R& x, int width, bool center, A epsilon, A* mean, A* inverse_sigma) {
  const A m = center ? row_mean<R>(width, [&](int i, int e) { return x.at[i][e]; }) : A(0);
  const A variance = row_mean<R>(width, [&](int i, int e) { return (x.at[i][e] - m) * (x.at[i][e] - m); });
  *mean = m;
  *inverse_sigma = A(1) / sqrt(variance + epsilon);
}

__device__ inline int64_t warp_of_grid() {
  return static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
}

// Sums `own` of the block's warps in shared memory, in order, and writes the block's row of `partial`.
template <typename R, typename A>
__device__ void sum_over_warps(const R& own, A* shared, A* partial, int width) {
  for (int w = 0; w < kWarps; ++w) {
    if (static_cast<int>(threadIdx.x / 32) == w) {
      R::for_each(width, [&](int i, int e) {
        A& slot = shared[R::column(i) + e];
        slot = w == 0 ? own.at[i][e] : slot + own.at[i][e];
      });
    }
    __syncthreads();
  }
  for (int c = static_cast<int>(threadIdx.x); c < width; c += kWarps * 32)
    partial[static_cast<int64_t>(blockIdx.x) * width + c] = shared[c];
  __syncthreads();
}

// Calls `launch` with the number of vectors per lane as a constant.
template <typename Scalar, typename Launch>
void for_width(int64_t width, Launch launch) {
  const int64_t needed = (width / kVector<Scalar> + 31) / 32;
  if (needed <= 1) {
    launch(std::integral_constant<int, 1>());
  } else if (needed <= 2) {
    launch(std::integral_constant<int, 2>());
  } else if (needed <= 3) {
    launch(std::integral_constant<int, 3>());
  } else if (needed <= 4) {
    launch(std::integral_constant<int, 4>());
  } else if (needed <= 8) {
    launch(std::integral_constant<int, 8>());
  } else {
    launch(std::integral_constant<int, kMostVectors>());
  }
}

template <typename Scalar, typename Launch>
void for_partials(int64_t width, Launch launch) {
  for_width<Scalar>(width, [&](auto vectors) {
    launch(vectors, static_cast<size_t>(width) * sizeof(AccumulateOf<Scalar>));
  });
}

inline unsigned blocks_of(int64_t rows) {
  return static_cast<unsigned>((rows + kWarps - 1) / kWarps);
}

}  // namespace fwl::cuda
