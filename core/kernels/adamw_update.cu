// A thread takes vectors of elements; every byte is read and written once.
#include <algorithm>
#include <cmath>

#include "core/kernels/adamw_update.cu.h"
#include "core/kernels/device.cuh"

namespace fwl::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMostBlocks = 4096;  // of a grid

template <typename A, int kCount>
__global__ void __launch_bounds__(kThreads) adamw_update_kernel(const AdamWArguments a) {
  if (*a.skip != 0) return;
  __shared__ A corrections[2];  // rate / (1 - beta1^n), 1 / sqrt(1 - beta2^n)
  if (threadIdx.x == 0) {
    const double n = *a.updates;
    corrections[0] = static_cast<A>(a.rate / (1 - pow(a.beta1, n)));
    corrections[1] = static_cast<A>(1 / sqrt(1 - pow(a.beta2, n)));
  }
  __syncthreads();
  const A step = corrections[0], widening = corrections[1], inverse = static_cast<A>(*a.inverse);
  const A kept = static_cast<A>(1 - a.rate * a.weight_decay), beta1 = static_cast<A>(a.beta1),
          beta2 = static_cast<A>(a.beta2), new1 = static_cast<A>(1 - a.beta1),
          new2 = static_cast<A>(1 - a.beta2), epsilon = static_cast<A>(a.epsilon);
  A *const values = static_cast<A*>(a.value), *const firsts = static_cast<A*>(a.first),
           *const seconds = static_cast<A*>(a.second);
  const A* const gradients = static_cast<const A*>(a.gradient);
  auto* const copies = static_cast<__nv_bfloat16*>(a.copy);
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kThreads * kCount;
  for (int64_t i = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kCount; i < a.count;
       i += stride) {
    const Vector<A, kCount> gradient = load_vector<kCount>(gradients + i);
    Vector<A, kCount> value = load_vector<kCount>(values + i), first = load_vector<kCount>(firsts + i),
                      second = load_vector<kCount>(seconds + i);
    Vector<__nv_bfloat16, kCount> copy;
#pragma unroll
    for (int e = 0; e < kCount; ++e) {
      const A g = gradient.at[e] / inverse;
      first.at[e] = beta1 * first.at[e] + new1 * g;
      second.at[e] = beta2 * second.at[e] + new2 * g * g;
      value.at[e] = kept * value.at[e] - step * first.at[e] / (sqrt(second.at[e]) * widening + epsilon);
      copy.at[e] = narrow<__nv_bfloat16>(static_cast<float>(value.at[e]));
    }
    store_vector(values + i, value);
    store_vector(firsts + i, first);
    store_vector(seconds + i, second);
    if (copies != nullptr) store_vector(copies + i, copy);
  }
}

}  // namespace

cudaError_t launch_adamw_update(ScalarType type, const AdamWArguments& a, cudaStream_t stream) {
  if (a.count == 0) return cudaSuccess;
  return dispatch(type, [&](auto* tag) {
    using A = AccumulateOf<std::remove_pointer_t<decltype(tag)>>;
    constexpr int kWide = kVector<A>;
    const bool wide = a.count % kWide == 0 && on_vectors(a.value, a.first, a.second, a.gradient) &&
                      reinterpret_cast<uintptr_t>(a.copy) % (kWide * sizeof(__nv_bfloat16)) == 0;
    const int64_t vectors = a.count / (wide ? kWide : 1);
    const auto blocks = static_cast<unsigned>(std::min((vectors + kThreads - 1) / kThreads, kMostBlocks));
    const auto kernel = wide ? adamw_update_kernel<A, kWide> : adamw_update_kernel<A, 1>;
    kernel<<<blocks, kThreads, 0, stream>>>(a);
  });
}

}  // namespace fwl::cuda
