// One thread block per row of logits. Pass 1 reads the row once and keeps (running maximum, sum of
// exponentials) per thread (Milakov and Gimelshein 2018, online softmax); pass 2 reads it again, mostly from
// L2, and writes.
#include <cuda_bf16.h>

#include "core/kernels/softmax_rows.cu.h"

namespace fwl::cuda {
namespace {

constexpr int kThreads = 512;

template <typename Scalar>
struct Accumulate {
  using type = float;
};
template <>
struct Accumulate<double> {
  using type = double;
};

template <typename Scalar, typename A>
__device__ A load(Scalar x) {
  return static_cast<A>(x);
}
template <>
__device__ float load<__nv_bfloat16, float>(__nv_bfloat16 x) {
  return __bfloat162float(x);
}
template <typename Scalar, typename A>
__device__ Scalar store(A x) {
  return static_cast<Scalar>(x);
}
template <>
__device__ __nv_bfloat16 store<__nv_bfloat16, float>(float x) {
  return __float2bfloat16(x);
}

template <typename A>
__device__ A exponential(A x);
template <>
__device__ float exponential<float>(float x) {
  return __expf(x);
}
template <>
__device__ double exponential<double>(double x) {
  return exp(x);
}

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

// Combines one value per thread over the block; every thread gets the result. `Combine` is associative.
template <typename T, typename Combine>
__device__ T block_reduce(T value, Combine combine_two) {
  __shared__ T partial[kThreads];
  __syncthreads();
  partial[threadIdx.x] = value;
  __syncthreads();
  for (int half = kThreads / 2; half > 0; half /= 2) {
    if (threadIdx.x < half)
      partial[threadIdx.x] = combine_two(partial[threadIdx.x], partial[threadIdx.x + half]);
    __syncthreads();
  }
  return partial[0];
}

// Maximum and sum of exponentials of a row.
template <typename Scalar, typename A>
__device__ MaxSum<A> softmax_statistics(const Scalar* row, int64_t vocabulary) {
  // A finite stand-in for -infinity: differences of two of them must not be NaN.
  MaxSum<A> mine{static_cast<A>(-1e30), 0};
  for (int64_t v = threadIdx.x; v < vocabulary; v += kThreads) {
    const A x = load<Scalar, A>(row[v]);
    if (x > mine.maximum) {
      mine.sum = mine.sum * exponential(mine.maximum - x) + 1;
      mine.maximum = x;
    } else {
      mine.sum += exponential(x - mine.maximum);
    }
  }
  return block_reduce(mine, [](MaxSum<A> a, MaxSum<A> b) { return combine(a, b); });
}

template <typename A>
__device__ A logarithm(A x);
template <>
__device__ float logarithm<float>(float x) {
  return logf(x);
}
template <>
__device__ double logarithm<double>(double x) {
  return log(x);
}

template <typename Scalar, typename A>
__global__ void cross_entropy_gradient_kernel(Scalar* logits, const int64_t* label, const A* weight, A* nll,
                                              int64_t vocabulary) {
  const int64_t t = blockIdx.x;
  Scalar* row = logits + t * vocabulary;
  const MaxSum<A> s = softmax_statistics<Scalar, A>(row, vocabulary);
  const int64_t y = label[t];
  const A w = weight[t];
  if (threadIdx.x == 0) nll[t] = logarithm(s.sum) + s.maximum - load<Scalar, A>(row[y]);
  __syncthreads();  // the label's logit is read before it is overwritten
  const A inverse = 1 / s.sum;
  for (int64_t v = threadIdx.x; v < vocabulary; v += kThreads) {
    const A p = exponential(load<Scalar, A>(row[v]) - s.maximum) * inverse;
    row[v] = store<Scalar, A>(w * (p - (v == y ? A(1) : A(0))));
  }
}

template <typename Scalar, typename A>
__global__ void cross_entropy_gradient_backward_kernel(Scalar* logits, Scalar* error_bar,
                                                       const int64_t* label, const A* weight,
                                                       const A* nll_bar, int64_t vocabulary) {
  const int64_t t = blockIdx.x;
  Scalar* row = logits + t * vocabulary;
  Scalar* bar = error_bar + t * vocabulary;
  const MaxSum<A> s = softmax_statistics<Scalar, A>(row, vocabulary);
  const A inverse = 1 / s.sum;
  A dot = 0;
  for (int64_t v = threadIdx.x; v < vocabulary; v += kThreads) {
    dot += exponential(load<Scalar, A>(row[v]) - s.maximum) * inverse * load<Scalar, A>(bar[v]);
  }
  dot = block_reduce(dot, [](A a, A b) { return a + b; });
  const int64_t y = label[t];
  const A w = weight[t];
  const A l = nll_bar[t];
  for (int64_t v = threadIdx.x; v < vocabulary; v += kThreads) {
    const A p = exponential(load<Scalar, A>(row[v]) - s.maximum) * inverse;
    const A residual = p - (v == y ? A(1) : A(0));
    bar[v] = store<Scalar, A>(l * residual + w * p * (load<Scalar, A>(bar[v]) - dot));
    row[v] = store<Scalar, A>(w * residual);
  }
}

// Calls `launch` with a null pointer of the row's scalar type, which carries the type.
template <typename Launch>
cudaError_t dispatch(RowType type, Launch launch) {
  switch (type) {
    case RowType::kFloat:
      launch(static_cast<float*>(nullptr));
      break;
    case RowType::kDouble:
      launch(static_cast<double*>(nullptr));
      break;
    case RowType::kBFloat16:
      launch(static_cast<__nv_bfloat16*>(nullptr));
      break;
  }
  return cudaGetLastError();
}

}  // namespace

cudaError_t launch_cross_entropy_gradient(RowType type, void* logits_nv, const int64_t* label_n,
                                          const void* weight_n, void* nll_n, int64_t rows, int64_t vocabulary,
                                          cudaStream_t stream) {
  if (rows == 0) return cudaSuccess;
  return dispatch(type, [&](auto* tag) {
    using Scalar = std::remove_pointer_t<decltype(tag)>;
    using A = typename Accumulate<Scalar>::type;
    cross_entropy_gradient_kernel<Scalar, A><<<static_cast<unsigned>(rows), kThreads, 0, stream>>>(
        static_cast<Scalar*>(logits_nv), label_n, static_cast<const A*>(weight_n), static_cast<A*>(nll_n),
        vocabulary);
  });
}

cudaError_t launch_cross_entropy_gradient_backward(RowType type, void* logits_nv, void* error_bar_nv,
                                                   const int64_t* label_n, const void* weight_n,
                                                   const void* nll_bar_n, int64_t rows, int64_t vocabulary,
                                                   cudaStream_t stream) {
  if (rows == 0) return cudaSuccess;
  return dispatch(type, [&](auto* tag) {
    using Scalar = std::remove_pointer_t<decltype(tag)>;
    using A = typename Accumulate<Scalar>::type;
    cross_entropy_gradient_backward_kernel<Scalar, A><<<static_cast<unsigned>(rows), kThreads, 0, stream>>>(
        static_cast<Scalar*>(logits_nv), static_cast<Scalar*>(error_bar_nv), label_n,
        static_cast<const A*>(weight_n), static_cast<const A*>(nll_bar_n), vocabulary);
  });
}

}  // namespace fwl::cuda
