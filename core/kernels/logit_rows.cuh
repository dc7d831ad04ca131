// What kernels over rows of logits share, one thread block a row. The row is read from memory once: one pass
// takes (running maximum, sum of exponentials) per thread (Milakov and Gimelshein 2018, online softmax) and
// keeps the row in shared memory where it fits; what comes after reads it there. Rows that do not fit are
// read again, mostly from L2. Device code and the launchers' choice of form; for .cu files alone.
#pragma once

#include <algorithm>

#include "core/kernels/device.cuh"
#include "core/kernels/fused_shapes.h"
#include "core/kernels/instructions.cuh"

namespace fwl::cuda {

constexpr int kMostThreads = 512;  // of a block
constexpr int kUnroll = 4;         // vectors that a thread has under way
constexpr size_t kLargestStage = 200 << 10;
constexpr size_t kLongestShort = 40 << 10;  // bytes of a row

// 16 bytes of bfloat16.
struct PairsOfBFloat16 {
  uint32_t at[4];
};

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

// Over a warp; every lane gets the result. The maxima first: one exponential a lane, where combining pair by
// pair takes ten.
template <typename A>
__device__ MaxSum<A> warp_combine(MaxSum<A> s) {
  A top = s.maximum;
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) top = max(top, __shfl_xor_sync(0xffffffffu, top, offset));
  return {top, warp_sum(s.sum * exponential(s.maximum - top))};
}

// Over the block; every thread gets the result.
template <int kThreads, typename A>
__device__ MaxSum<A> block_combine(MaxSum<A> s) {
  constexpr int kWarps = kThreads / 32;
  __shared__ MaxSum<A> partial[kWarps];
  const int lane = threadIdx.x % 32;
  s = warp_combine(s);
  __syncthreads();
  if (lane == 0) partial[threadIdx.x / 32] = s;
  __syncthreads();
  // Every warp for itself; lanes beyond the warps add nothing.
  s = partial[lane % kWarps];
  return warp_combine(MaxSum<A>{s.maximum, lane < kWarps ? s.sum : A(0)});
}
template <int kThreads, typename A>
__device__ A block_sum(A value) {
  __shared__ A partial[kThreads / 32];
  value = warp_sum(value);
  __syncthreads();
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
  __syncthreads();
  A all = partial[0];
  for (int w = 1; w < kThreads / 32; ++w) all += partial[w];
  return all;
}

// Sum over the threads before this one; *total: over all.
template <int kThreads>
__device__ int exclusive_sum(int value, int* total) {
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
template <int kThreads, int kCount, typename Scalar, typename Visit>
__device__ void for_each_vector(const Scalar* row, int vectors, Visit visit) {
  for (int base = threadIdx.x; base < vectors; base += kThreads * kUnroll) {
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
template <int kThreads>
class MarkedVectors {
 public:
  __device__ explicit MarkedVectors(int vectors) : vectors_(vectors) {
    while ((vectors + kThreads - 1) / kThreads > kGroups << shift_) ++shift_;
  }
  __device__ void mark(int v) { groups_ |= uint64_t{1} << (v / kThreads >> shift_); }
  // Calls visit(index, vector) for the vectors of the marked groups, ascending: all that are marked, and
  // others.
  template <int kCount, typename Scalar, typename Visit>
  __device__ void for_each(const Scalar* row, Visit visit) const {
    for (uint64_t left = groups_; left != 0; left &= left - 1) {
      const int group = __ffsll(static_cast<long long>(left)) - 1;
      for (int i = group << shift_; i < (group + 1) << shift_; ++i) {
        const int v = static_cast<int>(threadIdx.x) + i * kThreads;
        if (v < vectors_) visit(v, load_vector<kCount>(row + v * kCount));
      }
    }
  }

 private:
  static constexpr int kGroups = 64;
  int vectors_;
  int shift_ = 0;  // a group is 2^shift of the thread's vectors
  uint64_t groups_ = 0;
};

template <int kCount, typename Scalar>
__device__ AccumulateOf<Scalar> largest_of(const Vector<Scalar, kCount>& x) {
  if constexpr (std::is_same_v<Scalar, __nv_bfloat16> && kCount == 8) {
    const auto pairs = __builtin_bit_cast(PairsOfBFloat16, x);
    const uint32_t top =
        larger_of_pairs(larger_of_pairs(pairs.at[0], pairs.at[1]), larger_of_pairs(pairs.at[2], pairs.at[3]));
    return max(float_of_bits(top << 16), float_of_bits(top & 0xffff0000u));
  } else {
    AccumulateOf<Scalar> top = widen(x.at[0]);
#pragma unroll
    for (int e = 1; e < kCount; ++e) top = max(top, widen(x.at[e]));
    return top;
  }
}

// A bit for each element that is at least `cut`.
template <int kCount, typename Scalar>
__device__ unsigned bits_above(const Vector<Scalar, kCount>& x, AccumulateOf<Scalar> cut) {
  unsigned bits = 0;
#pragma unroll
  for (int e = 0; e < kCount; ++e) bits |= (widen(x.at[e]) >= cut ? 1u : 0u) << e;
  return bits;
}

// Calls visit(element) for the bits that are set, ascending.
template <typename Visit>
__device__ void for_each_bit(unsigned bits, Visit visit) {
  for (; bits != 0; bits &= bits - 1) visit(__ffs(static_cast<int>(bits)) - 1);
}

// The elements of a vector that are at least `cut`, a bit each. Nearly all vectors hold none.
template <int kCount, typename Scalar>
__device__ unsigned likely_bits(const Vector<Scalar, kCount>& logits, AccumulateOf<Scalar> cut) {
  return largest_of(logits) < cut ? 0 : bits_above(logits, cut);
}

// The likely tokens of a row: a thread counts those of its vectors and goes back to the vectors that have
// some.
template <int kThreads, typename A>
class LikelyRow {
 public:
  __device__ LikelyRow(int vectors, A cut) : marked_(vectors), cut_(cut) {}
  template <int kCount, typename Scalar>
  __device__ void look_at(int v, const Vector<Scalar, kCount>& x) {
    if (const unsigned bits = likely_bits(x, cut_)) {
      count_ += __popc(bits);
      marked_.mark(v);
    }
  }
  // Of this thread's.
  __device__ int count() const { return count_; }
  // Calls visit(token, logit), ascending; `row` as it was looked at.
  template <int kCount, typename Scalar, typename Visit>
  __device__ void for_each(const Scalar* row, Visit visit) const {
    if (count_ == 0) return;
    marked_.template for_each<kCount>(row, [&](int v, const Vector<Scalar, kCount>& x) {
      for_each_bit(likely_bits(x, cut_), [&](int e) { visit(v * kCount + e, widen(x.at[e])); });
    });
  }

 private:
  MarkedVectors<kThreads> marked_;
  A cut_;
  int count_ = 0;
};

template <typename A, typename Scalar, int kCount>
__device__ void add_to(MaxSum<A>& mine, const Vector<Scalar, kCount>& x) {
  const A top = max(mine.maximum, largest_of(x));
  const ShiftedExponential<A> power(top);
  mine.sum *= power(mine.maximum);
#pragma unroll
  for (int e = 0; e < kCount; ++e) mine.sum += power(widen(x.at[e]));
  mine.maximum = top;
}

// log(sum of exponentials) of a row; every thread of the block gets it. `visit` sees the vectors that it
// reads.
template <int kThreads, typename A, int kCount, typename Scalar, typename Visit>
__device__ A log_sum_of(const Scalar* row, int vectors, Visit visit) {
  // A finite stand-in for -infinity: differences of two of them must not be NaN.
  MaxSum<A> mine{static_cast<A>(-1e30), 0};
  for_each_vector<kThreads, kCount>(row, vectors, [&](int v, const Vector<Scalar, kCount>& x) {
    add_to(mine, x);
    visit(v, x);
  });
  const MaxSum<A> s = block_combine<kThreads>(mine);
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

// Vectors of 16 bytes where rows are whole vectors, else single elements. `launch` gets constants for the
// vector's length, for staging and for the threads of a block, and the bytes of the stage. A short row has
// `kShort` threads: several blocks then share a multiprocessor, and threads have more to do between two
// barriers. `beside`: bytes of shared memory that the kernel needs besides.
template <typename Scalar, int kShort, typename Launch>
void choose_form(int64_t vocabulary, bool aligned, Launch launch, size_t beside = 0) {
  const size_t bytes = static_cast<size_t>(vocabulary) * sizeof(Scalar);
  const bool fits = bytes + beside <= largest_stage();
  constexpr std::integral_constant<int, kVector<Scalar>> kWide;
  constexpr std::integral_constant<int, kMostThreads> kMost;
  if (!are_whole_vectors(vocabulary, sizeof(Scalar)) || !aligned) {
    launch(std::integral_constant<int, 1>(), std::false_type(), kMost, size_t{0});
  } else if (!fits) {
    launch(kWide, std::false_type(), kMost, size_t{0});
  } else if (bytes > kLongestShort) {
    launch(kWide, std::true_type(), kMost, bytes);
  } else {
    launch(kWide, std::true_type(), std::integral_constant<int, kShort>(), bytes);
  }
}

}  // namespace fwl::cuda
