// One thread block per row. The row is read from memory once: pass 1 takes (running maximum, sum of
// exponentials) per thread (Milakov and Gimelshein 2018, online softmax) and keeps the row in shared memory
// where it fits, pass 2 writes from there. Rows that do not fit are read again, mostly from L2.
#include <algorithm>

#include "core/kernels/device.cuh"
#include "core/kernels/softmax_rows.cu.h"

namespace fwl::cuda {
namespace {

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
  __device__ float operator()(float x) const {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(fmaf(x, kLog2E, -scaled_shift)));
    return y;
  }
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

template <typename Scalar, int kCount>
__global__ void __launch_bounds__(kThreads)
    cross_entropy_kernel(const Scalar* logits, const int64_t* label, AccumulateOf<Scalar>* nll,
                         int64_t vocabulary) {
  using A = AccumulateOf<Scalar>;
  const int64_t t = blockIdx.x;
  const Scalar* const row = logits + t * vocabulary;
  const A log_sum =
      log_sum_of<A, kCount>(row, vocabulary / kCount, [](int64_t, const Vector<Scalar, kCount>&) {});
  if (threadIdx.x == 0) nll[t] = log_sum - widen(row[label[t]]);
}

template <typename Scalar, int kCount, bool kStaged>
__global__ void __launch_bounds__(kThreads)
    cross_entropy_gradient_kernel(Scalar* logits, const int64_t* label, const AccumulateOf<Scalar>* weight,
                                  AccumulateOf<Scalar>* nll, int64_t vocabulary) {
  using A = AccumulateOf<Scalar>;
  extern __shared__ __align__(16) unsigned char stage_bytes[];
  Scalar* const stage = reinterpret_cast<Scalar*>(stage_bytes);
  const int64_t t = blockIdx.x, vectors = vocabulary / kCount;
  Scalar* const row = logits + t * vocabulary;
  const A log_sum = log_sum_of<A, kCount>(row, vectors, [&](int64_t v, const Vector<Scalar, kCount>& x) {
    if (kStaged) store_vector(stage + v * kCount, x);
  });
  const int64_t y = label[t];
  const A w = weight[t];
  const ShiftedExponential<A> power(log_sum);
  if (threadIdx.x == 0) nll[t] = log_sum - widen(row[y]);
  __syncthreads();  // the label's logit is read before it is overwritten
  for_each_vector<kCount>(kStaged ? stage : row, vectors, [&](int64_t v, const Vector<Scalar, kCount>& x) {
    Vector<Scalar, kCount> out;
    const int label_at = static_cast<int>(y - v * kCount);
#pragma unroll
    for (int e = 0; e < kCount; ++e)
      out.at[e] = narrow<Scalar>(w * (power(widen(x.at[e])) - (e == label_at ? A(1) : A(0))));
    store_vector(row + v * kCount, out);
  });
}

// The logits' normaliser is nll + logit of the label, so that no pass is needed for it.
template <typename Scalar, int kCount, bool kStaged>
__global__ void __launch_bounds__(kThreads)
    cross_entropy_gradient_backward_kernel(Scalar* logits, Scalar* error_bar, const int64_t* label,
                                           const AccumulateOf<Scalar>* weight,
                                           const AccumulateOf<Scalar>* nll,
                                           const AccumulateOf<Scalar>* nll_bar, int64_t vocabulary) {
  using A = AccumulateOf<Scalar>;
  extern __shared__ __align__(16) unsigned char stage_bytes[];
  Scalar* const stage = reinterpret_cast<Scalar*>(stage_bytes);
  const int64_t t = blockIdx.x, vectors = vocabulary / kCount, y = label[t];
  Scalar* const row = logits + t * vocabulary;
  Scalar* const bar = error_bar + t * vocabulary;
  const ShiftedExponential<A> power(nll[t] + widen(row[y]));
  A dot = 0;
  for_each_vector<kCount>(row, vectors, [&](int64_t v, const Vector<Scalar, kCount>& x) {
    const Vector<Scalar, kCount> b = load_vector<kCount>(bar + v * kCount);
#pragma unroll
    for (int e = 0; e < kCount; ++e) dot += power(widen(x.at[e])) * widen(b.at[e]);
    if (kStaged) store_vector(stage + v * kCount, x);
  });
  dot = block_reduce(dot, [](A a, A b) { return a + b; });
  const A w = weight[t], l = nll_bar[t];
  for_each_vector<kCount>(bar, vectors, [&](int64_t v, const Vector<Scalar, kCount>& b) {
    const Vector<Scalar, kCount> x = load_vector<kCount>((kStaged ? stage : row) + v * kCount);
    Vector<Scalar, kCount> bar_out, error_out;
#pragma unroll
    for (int e = 0; e < kCount; ++e) {
      const A p = power(widen(x.at[e]));
      const A residual = p - (v * kCount + e == y ? A(1) : A(0));
      bar_out.at[e] = narrow<Scalar>(l * residual + w * p * (widen(b.at[e]) - dot));
      error_out.at[e] = narrow<Scalar>(w * residual);
    }
    store_vector(bar + v * kCount, bar_out);
    store_vector(row + v * kCount, error_out);
  });
}

// p is the residual, and 1 more at the label.
template <typename Scalar, int kCount, bool kStaged>
__global__ void __launch_bounds__(kThreads)
    cross_entropy_residual_backward_kernel(const Scalar* residual, Scalar* error_bar, const int64_t* label,
                                           const AccumulateOf<Scalar>* weight,
                                           const AccumulateOf<Scalar>* nll_bar, int64_t vocabulary) {
  using A = AccumulateOf<Scalar>;
  extern __shared__ __align__(16) unsigned char stage_bytes[];
  Scalar* const stage = reinterpret_cast<Scalar*>(stage_bytes);
  const int64_t t = blockIdx.x, vectors = vocabulary / kCount, y = label[t];
  const Scalar* const row = residual + t * vocabulary;
  Scalar* const bar = error_bar + t * vocabulary;
  A dot = 0;
  for_each_vector<kCount>(bar, vectors, [&](int64_t v, const Vector<Scalar, kCount>& b) {
    const Vector<Scalar, kCount> r = load_vector<kCount>(row + v * kCount);
#pragma unroll
    for (int e = 0; e < kCount; ++e) dot += widen(r.at[e]) * widen(b.at[e]);
    if (kStaged) store_vector(stage + v * kCount, b);
  });
  dot = block_reduce(dot, [](A a, A b) { return a + b; }) + widen(bar[y]);
  const A w = weight[t], l = nll_bar[t];
  __syncthreads();  // the label's cotangent is read before it is overwritten
  for_each_vector<kCount>(row, vectors, [&](int64_t v, const Vector<Scalar, kCount>& r) {
    const Vector<Scalar, kCount> b = load_vector<kCount>((kStaged ? stage : bar) + v * kCount);
    Vector<Scalar, kCount> out;
    const int label_at = static_cast<int>(y - v * kCount);
#pragma unroll
    for (int e = 0; e < kCount; ++e) {
      const A weighted = w * (widen(b.at[e]) - dot);
      out.at[e] = narrow<Scalar>(widen(r.at[e]) * (l + weighted) + (e == label_at ? weighted : A(0)));
    }
    store_vector(bar + v * kCount, out);
  });
}

// Bytes of a row that a block can keep on the current GPU, beside what its reductions need.
size_t largest_stage() {
  constexpr int kReductions = 1 << 10;
  int device = 0, most = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  return std::min(kLargestStage, static_cast<size_t>(std::max(0, most - kReductions)));
}

// Vectors of 16 bytes where rows are whole vectors, else single elements. `launch` gets a constant for the
// vector's length and one for staging, and the bytes of the stage.
template <typename Scalar, typename Launch>
void choose_form(int64_t vocabulary, bool aligned, Launch launch) {
  const size_t bytes = static_cast<size_t>(vocabulary) * sizeof(Scalar);
  const bool fits = bytes <= largest_stage();
  constexpr int kWide = kVector<Scalar>;
  if (vocabulary % kWide != 0 || !aligned) {
    launch(std::integral_constant<int, 1>(), std::false_type(), size_t{0});
  } else if (fits) {
    launch(std::integral_constant<int, kWide>(), std::true_type(), bytes);
  } else {
    launch(std::integral_constant<int, kWide>(), std::false_type(), size_t{0});
  }
}

template <typename Kernel>
void allow_stage(Kernel kernel, size_t bytes) {
  if (bytes > (48 << 10))
    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
}

}  // namespace

cudaError_t launch_cross_entropy_gradient(ScalarType type, void* logits_nv, const int64_t* label_n,
                                          const void* weight_n, void* nll_n, int64_t rows, int64_t vocabulary,
                                          cudaStream_t stream) {
  if (rows == 0) return cudaSuccess;
  return dispatch(type, [&](auto* tag) {
    using Scalar = std::remove_pointer_t<decltype(tag)>;
    using A = AccumulateOf<Scalar>;
    choose_form<Scalar>(vocabulary, on_vectors(logits_nv), [&](auto count, auto staged, size_t bytes) {
      const auto kernel =
          cross_entropy_gradient_kernel<Scalar, decltype(count)::value, decltype(staged)::value>;
      allow_stage(kernel, bytes);
      kernel<<<static_cast<unsigned>(rows), kThreads, bytes, stream>>>(
          static_cast<Scalar*>(logits_nv), label_n, static_cast<const A*>(weight_n), static_cast<A*>(nll_n),
          vocabulary);
    });
  });
}

cudaError_t launch_cross_entropy(ScalarType type, const void* logits_nv, const int64_t* label_n, void* nll_n,
                                 int64_t rows, int64_t vocabulary, cudaStream_t stream) {
  if (rows == 0) return cudaSuccess;
  return dispatch(type, [&](auto* tag) {
    using Scalar = std::remove_pointer_t<decltype(tag)>;
    const bool wide = vocabulary % kVector<Scalar> == 0 && on_vectors(logits_nv);
    const auto kernel =
        wide ? cross_entropy_kernel<Scalar, kVector<Scalar>> : cross_entropy_kernel<Scalar, 1>;
    kernel<<<static_cast<unsigned>(rows), kThreads, 0, stream>>>(
        static_cast<const Scalar*>(logits_nv), label_n, static_cast<AccumulateOf<Scalar>*>(nll_n),
        vocabulary);
  });
}

cudaError_t launch_cross_entropy_gradient_backward(ScalarType type, void* logits_nv, void* error_bar_nv,
                                                   const int64_t* label_n, const void* weight_n,
                                                   const void* nll_n, const void* nll_bar_n, int64_t rows,
                                                   int64_t vocabulary, cudaStream_t stream) {
  if (rows == 0) return cudaSuccess;
  return dispatch(type, [&](auto* tag) {
    using Scalar = std::remove_pointer_t<decltype(tag)>;
    using A = AccumulateOf<Scalar>;
    choose_form<Scalar>(
        vocabulary, on_vectors(logits_nv, error_bar_nv), [&](auto count, auto staged, size_t bytes) {
          const auto kernel =
              cross_entropy_gradient_backward_kernel<Scalar, decltype(count)::value, decltype(staged)::value>;
          allow_stage(kernel, bytes);
          kernel<<<static_cast<unsigned>(rows), kThreads, bytes, stream>>>(
              static_cast<Scalar*>(logits_nv), static_cast<Scalar*>(error_bar_nv), label_n,
              static_cast<const A*>(weight_n), static_cast<const A*>(nll_n), static_cast<const A*>(nll_bar_n),
              vocabulary);
        });
  });
}

cudaError_t launch_cross_entropy_residual_backward(ScalarType type, const void* residual_nv,
                                                   void* error_bar_nv, const int64_t* label_n,
                                                   const void* weight_n, const void* nll_bar_n, int64_t rows,
                                                   int64_t vocabulary, cudaStream_t stream) {
  if (rows == 0) return cudaSuccess;
  return dispatch(type, [&](auto* tag) {
    using Scalar = std::remove_pointer_t<decltype(tag)>;
    using A = AccumulateOf<Scalar>;
    choose_form<Scalar>(
        vocabulary, on_vectors(residual_nv, error_bar_nv), [&](auto count, auto staged, size_t bytes) {
          const auto kernel =
              cross_entropy_residual_backward_kernel<Scalar, decltype(count)::value, decltype(staged)::value>;
          allow_stage(kernel, bytes);
          kernel<<<static_cast<unsigned>(rows), kThreads, bytes, stream>>>(
              static_cast<const Scalar*>(residual_nv), static_cast<Scalar*>(error_bar_nv), label_n,
              static_cast<const A*>(weight_n), static_cast<const A*>(nll_bar_n), vocabulary);
        });
  });
}

}  // namespace fwl::cuda
