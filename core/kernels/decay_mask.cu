// One warp per row of a chunk.
#include "core/kernels/decay_mask.cu.h"
#include "core/kernels/device.cuh"

namespace fwl::cuda {
namespace {

constexpr int kWarps = 8;

template <typename Scalar, int kCount>
__global__ void __launch_bounds__(kWarps * 32)
    decay_mask_kernel(Scalar* a, Scalar* b, const double* log_decay, const int64_t* document,
                      double* row_sums, int64_t rows, int chunk) {
  using A = AccumulateOf<Scalar>;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (row >= rows) return;
  const int i = static_cast<int>(row % chunk);
  const int64_t* const documents = document == nullptr ? nullptr : document + (row - i);
  const A log_rho = static_cast<A>(*log_decay);
  A sum = 0;
  for (int j = static_cast<int>(threadIdx.x % 32) * kCount; j < chunk; j += 32 * kCount) {
    Scalar* const at_a = a + row * chunk + j;
    Scalar* const at_b = b == nullptr ? nullptr : b + row * chunk + j;
    Vector<Scalar, kCount> x{}, y{};
    if (j < i) {
      x = load_vector<kCount>(at_a);
      if (b != nullptr) y = load_vector<kCount>(at_b);
    }
#pragma unroll
    for (int e = 0; e < kCount; ++e) {
      const int gap = i - 1 - (j + e);
      const bool seen = gap >= 0 && (documents == nullptr || documents[i] == documents[j + e]);
      const A weight = seen ? exponential(log_rho * static_cast<A>(gap)) : A(0);
      if (b != nullptr) {
        const A masked = seen ? weight * widen(y.at[e]) : A(0);
        if (row_sums != nullptr && seen) sum += static_cast<A>(gap) * masked * widen(x.at[e]);
        y.at[e] = narrow<Scalar>(masked);
      }
      x.at[e] = narrow<Scalar>(seen ? weight * widen(x.at[e]) : A(0));
    }
    store_vector(at_a, x);
    if (b != nullptr) store_vector(at_b, y);
  }
  if (row_sums == nullptr) return;
  sum = warp_sum(sum);
  if (threadIdx.x % 32 == 0) row_sums[row] = static_cast<double>(sum);
}

}  // namespace

cudaError_t launch_decay_mask(ScalarType type, void* a, void* b, const double* log_decay,
                              const int64_t* document, double* row_sums, int64_t chunks, int64_t chunk,
                              cudaStream_t stream) {
  const int64_t rows = chunks * chunk;
  if (rows == 0) return cudaSuccess;
  const auto blocks = static_cast<unsigned>((rows + kWarps - 1) / kWarps);
  return dispatch(type, [&](auto* tag) {
    using S = std::remove_pointer_t<decltype(tag)>;
    const bool wide = chunk % kVector<S> == 0 && on_vectors(a, b);
    const auto kernel = wide ? decay_mask_kernel<S, kVector<S>> : decay_mask_kernel<S, 1>;
    kernel<<<blocks, kWarps * 32, 0, stream>>>(static_cast<S*>(a), static_cast<S*>(b), log_decay, document,
                                               row_sums, rows, static_cast<int>(chunk));
  });
}

}  // namespace fwl::cuda
