#include <algorithm>

#include "core/kernels/activation.cu.h"
#include "core/kernels/device.cuh"

namespace fwl::cuda {
namespace {

constexpr int kThreads = 256;
constexpr double kGeluScale = 0.79788456080286535588;  // sqrt(2 / pi)
constexpr double kGeluCubic = 0.044715;

template <typename A>
struct ValueAndSlope {
  A value, slope;
};

template <typename A>
__device__ ValueAndSlope<A> squared_relu(A u) {
  const A positive = u > A(0) ? u : A(0);
  return {positive * positive, 2 * positive};
}

template <typename A>
__device__ ValueAndSlope<A> gelu_tanh(A u) {
  const A t = tanh(A(kGeluScale) * (u + A(kGeluCubic) * u * u * u));
  const A inner_slope = A(kGeluScale) * (1 + 3 * A(kGeluCubic) * u * u);
  return {A(0.5) * u * (1 + t), A(0.5) * (1 + t) + A(0.5) * u * (1 - t * t) * inner_slope};
}

template <bool kGelu, typename A>
__device__ ValueAndSlope<A> activation(A u) {
  if constexpr (kGelu) {
    return gelu_tanh(u);
  } else {
    return squared_relu(u);
  }
}

// `bar`, `u_bar` null: the value alone. `act` null: the gradient alone.
template <typename Scalar, int kCount, bool kGelu>
__global__ void __launch_bounds__(kThreads)
    activation_kernel(const Scalar* u, const Scalar* bar, Scalar* act, Scalar* u_bar, int64_t vectors) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t v = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; v < vectors; v += stride) {
    const auto x = load_vector<kCount>(u + v * kCount);
    Vector<Scalar, kCount> value, gradient;
    if (bar != nullptr) gradient = load_vector<kCount>(bar + v * kCount);
#pragma unroll
    for (int e = 0; e < kCount; ++e) {
      const auto a = activation<kGelu>(widen(x.at[e]));
      value.at[e] = narrow<Scalar>(a.value);
      if (bar != nullptr) gradient.at[e] = narrow<Scalar>(a.slope * widen(gradient.at[e]));
    }
    if (act != nullptr) store_vector(act + v * kCount, value);
    if (bar != nullptr) store_vector(u_bar + v * kCount, gradient);
  }
}

template <typename Scalar, int kCount>
__global__ void __launch_bounds__(kThreads)
    squared_relu_backward_kernel(const Scalar* act, const Scalar* bar, Scalar* u_bar, int64_t vectors) {
  using A = AccumulateOf<Scalar>;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads;
  for (int64_t v = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; v < vectors; v += stride) {
    const auto value = load_vector<kCount>(act + v * kCount);
    auto gradient = load_vector<kCount>(bar + v * kCount);
#pragma unroll
    for (int e = 0; e < kCount; ++e)
      gradient.at[e] = narrow<Scalar>(A(2) * sqrt(widen(value.at[e])) * widen(gradient.at[e]));
    store_vector(u_bar + v * kCount, gradient);
  }
}

// Calls run(a constant for the elements of a vector, vectors, blocks).
template <typename Scalar, typename Run>
void on_all(int64_t count, bool aligned, Run run) {
  const auto with = [&](auto vector) {
    const int64_t vectors = count / decltype(vector)::value;
    run(vector, vectors,
        static_cast<unsigned>(std::min<int64_t>((vectors + kThreads - 1) / kThreads, 1 << 16)));
  };
  if (count % kVector<Scalar> == 0 && aligned) {
    with(std::integral_constant<int, kVector<Scalar>>());
  } else {
    with(std::integral_constant<int, 1>());
  }
}

cudaError_t launch(ScalarType type, bool gelu, const void* u, const void* bar, void* act, void* u_bar,
                   int64_t count, cudaStream_t stream) {
  if (count == 0) return cudaSuccess;
  return dispatch(type, [&](auto* tag) {
    using S = std::remove_pointer_t<decltype(tag)>;
    on_all<S>(count, on_vectors(u, bar, act, u_bar), [&](auto vector, int64_t vectors, unsigned blocks) {
      constexpr int kCount = decltype(vector)::value;
      const auto kernel = gelu ? activation_kernel<S, kCount, true> : activation_kernel<S, kCount, false>;
      kernel<<<blocks, kThreads, 0, stream>>>(static_cast<const S*>(u), static_cast<const S*>(bar),
                                              static_cast<S*>(act), static_cast<S*>(u_bar), vectors);
    });
  });
}

}  // namespace

cudaError_t launch_activate(ScalarType type, bool gelu, const void* u, void* act, int64_t count,
                            cudaStream_t stream) {
  return launch(type, gelu, u, nullptr, act, nullptr, count, stream);
}

cudaError_t launch_activate_backward(ScalarType type, bool gelu, const void* u, const void* act_bar,
                                     void* act, void* u_bar, int64_t count, cudaStream_t stream) {
  return launch(type, gelu, u, act_bar, act, u_bar, count, stream);
}

cudaError_t launch_squared_relu_backward(ScalarType type, const void* act, const void* act_bar, void* u_bar,
                                         int64_t count, cudaStream_t stream) {
  if (count == 0) return cudaSuccess;
  return dispatch(type, [&](auto* tag) {
    using S = std::remove_pointer_t<decltype(tag)>;
    on_all<S>(count, on_vectors(act, act_bar, u_bar), [&](auto vector, int64_t vectors, unsigned blocks) {
      const auto kernel = squared_relu_backward_kernel<S, decltype(vector)::value>;
      kernel<<<blocks, kThreads, 0, stream>>>(static_cast<const S*>(act), static_cast<const S*>(act_bar),
                                              static_cast<S*>(u_bar), vectors);
    });
  });
}

}  // namespace fwl::cuda
