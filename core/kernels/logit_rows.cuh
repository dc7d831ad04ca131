// What kernels over rows of logits share, one thread block a row. The row is read from memory once: one pass
// takes (running maximum, sum of exponentials) per thread (Milakov and Gimelshein 2018, online softmax) and
// keeps the row in shared memory where it fits; what comes after reads it there. Rows that do not fit are
// read again, mostly from L2. Device code and the launchers' choice of form; for .cu files alone.
#pragma once

#include <algorithm>

#include "core/kernels/device.cuh"
#include "core/kernels/instructions.cuh"

namespace fwl::cuda {

constexpr int kThreads = 512;
constexpr int kUnroll = 4;  // vectors that a thread has under way
constexpr size_t kLargestStage = 200 << 10;

// exp(x - shift), in base 2 for float so that shift and scale are one multiply-add.
template <typename A>
struct ShiftedExponential;
template <>
struct ShiftedExponential<float> {
  static constexpr float kLog2E = 1.4426950408889634f;
  float scaled_shift;
  __device__ explicit ShiftedExponential(float shift) : scaled_shift(shift * kLog2E) {}
  __device__ float operator()(float x) const { return exp2_fast(fmaf(x, kLog2E, -scaled_shift)); }
};
template <>
struct ShiftedExponential<double> {
  double shift;
  __device__ explicit ShiftedExponential(double s) : shift(s) {}
  __device__ double operator()(double x) const { return exp(x - shift); }
};

template <typename A>
struct MaxSum {
  A maximum;
  A sum;
};

template <typename A>
__device__ MaxSum<A> combine(MaxSum<A> a, MaxSum<A> b) {
  const A top = a.maximum > b.maximum ? a.maximum : b.maximum;
  return {top, a.sum * exponential(a.maximum - top) + b.sum * exponential(b.maximum - top)};
}

template <typename A>
__device__ MaxSum<A> shuffle(MaxSum<A> value, int offset) {
  return {__shfl_xor_sync(0xffffffffu, value.maximum, offset),
          __shfl_xor_sync(0xffffffffu, value.sum, offset)};
}
template <typename A>
__device__ A shuffle(A value, int offset) {
  return __shfl_xor_sync(0xffffffffu, value, offset);
}

// Combines one value per thread over the block; every thread gets the result.
template <typename T, typename Combine>
__device__ T block_reduce(T value, Combine combine_two) {
  __shared__ T partial[kThreads / 32];
  for (int offset = 16; offset > 0; offset /= 2) value = combine_two(value, shuffle(value, offset));
  __syncthreads();
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
  __syncthreads();
  T all = partial[0];
  for (int w = 1; w < kThreads / 32; ++w) all = combine_two(all, partial[w]);
  return all;
}

// Sum over the threads before this one; *total: over all.
__device__ inline int exclusive_sum(int value, int* total) {
  __shared__ int partial[kThreads / 32];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int sum = value;
  for (int offset = 1; offset < 32; offset *= 2) {
    const int other = __shfl_up_sync(0xffffffffu, sum, offset);
    if (lane >= offset) sum += other;
  }
  __syncthreads();
  if (lane == 31) partial[warp] = sum;
  __syncthreads();
  int before = 0, all = 0;
  for (int w = 0; w < kThreads / 32; ++w) {
    before += w < warp ? partial[w] : 0;
    all += partial[w];
  }
  *total = all;
  return before + sum - value;
}

// Calls visit(index, vector) for this thread's vectors of a row, several loads under way at once.
template <int kCount, typename Scalar, typename Visit>
__device__ void for_each_vector(const Scalar* row, int64_t vectors, Visit visit) {
  for (int64_t base = threadIdx.x; base < vectors; base += kThreads * kUnroll) {
    Vector<Scalar, kCount> loaded[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      if (base + u * kThreads < vectors)
        loaded[u] = load_vector<kCount>(row + (base + u * kThreads) * kCount);
    }
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
      if (base + u * kThreads < vectors) visit(base + u * kThreads, loaded[u]);
    }
  }
}

// Which of its vectors of a row, as for_each_vector() deals them, a thread looks at again: a bit for each
// group of them.
class MarkedVectors {
 public:
  __device__ explicit MarkedVectors(int64_t vectors) : vectors_(vectors) {
    while ((vectors + kThreads - 1) / kThreads > kGroups << shift_) ++shift_;
  }
  __device__ void mark(int64_t v) { groups_ |= uint64_t{1} << (v / kThreads >> shift_); }
  // Calls visit(index, vector) for the vectors of the marked groups, ascending: all that are marked, and
  // others.
  template <int kCount, typename Scalar, typename Visit>
  __device__ void for_each(const Scalar* row, Visit visit) const {
    for (int64_t group = 0; group < kGroups && groups_ >> group != 0; ++group) {
      if ((groups_ >> group & 1) == 0) continue;
      for (int64_t i = group << shift_; i < (group + 1) << shift_; ++i) {
        const int64_t v = threadIdx.x + i * kThreads;
        if (v < vectors_) visit(v, load_vector<kCount>(row + v * kCount));
      }
    }
  }

 private:
  static constexpr int64_t kGroups = 64;
  int64_t vectors_;
  int shift_ = 0;  // a group is 2^shift of the thread's vectors
  uint64_t groups_ = 0;
};

template <int kCount, typename Scalar>
__device__ AccumulateOf<Scalar> largest_of(const Vector<Scalar, kCount>& x) {
  AccumulateOf<Scalar> top = widen(x.at[0]);
#pragma unroll
  for (int e = 1; e < kCount; ++e) top = max(top, widen(x.at[e]));
  return top;
}

template <typename A, typename Scalar, int kCount>
__device__ void add_to(MaxSum<A>& mine, const Vector<Scalar, kCount>& x) {
  A top = mine.maximum;
#pragma unroll
  for (int e = 0; e < kCount; ++e) top = max(top, widen(x.at[e]));
  const ShiftedExponential<A> power(top);
  mine.sum *= power(mine.maximum);
#pragma unroll
  for (int e = 0; e < kCount; ++e) mine.sum += power(widen(x.at[e]));
  mine.maximum = top;
}

// log(sum of exponentials) of a row; every thread of the block gets it. `visit` sees the vectors that it
// reads.
template <typename A, int kCount, typename Scalar, typename Visit>
__device__ A log_sum_of(const Scalar* row, int64_t vectors, Visit visit) {
  // A finite stand-in for -infinity: differences of two of them must not be NaN.
  MaxSum<A> mine{static_cast<A>(-1e30), 0};
  for_each_vector<kCount>(row, vectors, [&](int64_t v, const Vector<Scalar, kCount>& x) {
    add_to(mine, x);
    visit(v, x);
  });
  const MaxSum<A> s = block_reduce(mine, [](MaxSum<A> a, MaxSum<A> b) { return combine(a, b); });
  return logarithm(s.sum) + s.maximum;
}

// Bytes of a row that a block can keep on the current GPU, beside what its reductions need.
inline size_t largest_stage() {
  constexpr int kReductions = 1 << 10;
  int device = 0, most = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  return std::min(kLargestStage, static_cast<size_t>(std::max(0, most - kReductions)));
}

// Vectors of 16 bytes where rows are whole vectors, else single elements. `launch` gets a constant for the
// vector's length and one for staging, and the bytes of the stage. `beside`: bytes of shared memory that the
// kernel needs besides.
template <typename Scalar, typename Launch>
void choose_form(int64_t vocabulary, bool aligned, Launch launch, size_t beside = 0) {
  const size_t bytes = static_cast<size_t>(vocabulary) * sizeof(Scalar);
  const bool fits = bytes + beside <= largest_stage();
  constexpr int kWide = kVector<Scalar>;
  if (vocabulary % kWide != 0 || !aligned) {
    launch(std::integral_constant<int, 1>(), std::false_type(), size_t{0});
  } else if (fits) {
    launch(std::integral_constant<int, kWide>(), std::true_type(), bytes);
  } else {
    launch(std::integral_constant<int, kWide>(), std::false_type(), size_t{0});
  }
}

// The same for rows of `width` elements beside them: `launch` gets a constant for the vector's length.
template <typename Scalar, typename Launch>
void choose_columns(int64_t width, bool aligned, Launch launch) {
  constexpr int kWide = kVector<Scalar>;
  if (width % kWide == 0 && aligned) {
    launch(std::integral_constant<int, kWide>());
  } else {
    launch(std::integral_constant<int, 1>());
  }
}

template <typename Kernel>
void allow_stage(Kernel kernel, size_t bytes) {
  if (bytes > (48 << 10))
    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
}

}  // namespace fwl::cuda
