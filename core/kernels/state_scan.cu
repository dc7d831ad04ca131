// A thread holds a few elements of the state and walks over the chunks.
#include "core/kernels/device.cuh"
#include "core/kernels/state_scan.cu.h"

namespace fwl::cuda {
namespace {

constexpr int kThreads = 256;

template <typename Scalar, int kCount>
__global__ void __launch_bounds__(kThreads)
    state_scan_kernel(const AccumulateOf<Scalar>* added, const AccumulateOf<Scalar>* carry, Scalar* before,
                      AccumulateOf<Scalar>* end, int64_t chunks, int64_t size, bool backward) {
  using A = AccumulateOf<Scalar>;
  // Blocks of one sequence, then those of the next.
  const int64_t blocks = (size / kCount + kThreads - 1) / kThreads, sequence = blockIdx.x / blocks;
  const int64_t element = (blockIdx.x % blocks * kThreads + threadIdx.x) * kCount;
  if (element >= size) return;
  Vector<A, kCount> state{};
  for (int64_t step = 0; step < chunks; ++step) {
    const int64_t chunk = sequence * chunks + (backward ? chunks - 1 - step : step);
    const Vector<A, kCount> more = load_vector<kCount>(added + chunk * size + element);
    const A factor = carry[chunk];
    Vector<Scalar, kCount> found;
#pragma unroll
    for (int e = 0; e < kCount; ++e) {
      found.at[e] = narrow<Scalar>(state.at[e]);
      state.at[e] = factor * state.at[e] + more.at[e];
    }
    store_vector_whole(before + chunk * size + element, found);
  }
  store_vector(end + sequence * size + element, state);
}

}  // namespace

cudaError_t launch_state_scan(ScalarType type, const void* added, const void* carry, void* before, void* end,
                              int64_t batch, int64_t chunks, int64_t size, bool backward,
                              cudaStream_t stream) {
  if (batch * size == 0) return cudaSuccess;
  return dispatch(type, [&](auto* tag) {
    using S = std::remove_pointer_t<decltype(tag)>;
    using A = AccumulateOf<S>;
    constexpr int kWide = kVector<A>;  // 16 bytes of sums
    const bool wide = size % kWide == 0 && on_vectors(added, before, end);
    const int64_t threads = size / (wide ? kWide : 1);
    const auto blocks = static_cast<unsigned>(batch * ((threads + kThreads - 1) / kThreads));
    const auto kernel = wide ? state_scan_kernel<S, kWide> : state_scan_kernel<S, 1>;
    kernel<<<blocks, kThreads, 0, stream>>>(static_cast<const A*>(added), static_cast<const A*>(carry),
                                            static_cast<S*>(before), static_cast<A*>(end), chunks, size,
                                            backward);
  });
}

}  // namespace fwl::cuda
