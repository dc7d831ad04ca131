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

cudaError_t launch(ScalarType type, bool gelu, const void* u, const void* bar, void* act, void* u_bar,
                   int64_t count, cudaStream_t stream) {
  if (count == 0) return cudaSuccess;
  return dispatch(type, [&](auto* tag) {
    using S = std::remove_pointer_t<decltype(tag)>;
    const auto run = [&](auto vector) {
      constexpr int kCount = decltype(vector)::value;
      const int64_t vectors = count / kCount;
      const auto blocks =
          static_cast<unsigned>(std::min<int64_t>((vectors + kThreads - 1) / kThreads, 1 << 16));
      const auto kernel = gelu ? activation_kernel<S, kCount, true> : activation_kernel<S, kCount, false>;
      kernel<<<blocks, kThreads, 0, stream>>>(static_cast<const S*>(u), static_cast<const S*>(bar),
                                              static_cast<S*>(act), static_cast<S*>(u_bar), vectors);
    };
    if (count % kVector<S> == 0 && on_vectors(u, bar, act, u_bar)) {
      run(std::integral_constant<int, kVector<S>>());
    } else {
      run(std::integral_constant<int, 1>());
    }
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

}  // namespace fwl::cuda
