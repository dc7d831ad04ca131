#include "core/kernels/device.cuh"
#include "core/kernels/partial_sums.cu.h"

namespace fwl::cuda {
namespace {

// A warp's lanes take columns beside one another, the block's warps every kSumWarps-th row; then the warps'
// sums are added up in order: the same bits every time.
constexpr int kSumWarps = 16;
template <typename Scalar>
__global__ void __launch_bounds__(kSumWarps * 32)
    sum_partials_kernel(const AccumulateOf<Scalar>* partial, Scalar* sums, int partials, int width) {
  using A = AccumulateOf<Scalar>;
  __shared__ A of_warp[kSumWarps][32];
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const int blocks = (width + 31) / 32;  // of one sum
  const int which = static_cast<int>(blockIdx.x) / blocks,
            column = static_cast<int>(blockIdx.x) % blocks * 32 + lane;
  const A* const own = partial + static_cast<int64_t>(which) * partials * width + column;
  A sum = 0;
  if (column < width) {
#pragma unroll 8
    for (int row = warp; row < partials; row += kSumWarps) sum += own[static_cast<int64_t>(row) * width];
  }
  of_warp[warp][lane] = sum;
  __syncthreads();
  if (warp != 0 || column >= width) return;
  for (int w = 1; w < kSumWarps; ++w) sum += of_warp[w][lane];
  sums[static_cast<int64_t>(which) * width + column] = narrow<Scalar>(sum);
}

}  // namespace

cudaError_t launch_sum_partials(ScalarType type, const void* partial, void* sums, int64_t count,
                                int64_t partials, int64_t width, cudaStream_t stream) {
  return dispatch(type, [&](auto* tag) {
    using S = std::remove_pointer_t<decltype(tag)>;
    const auto blocks = static_cast<unsigned>(count * ((width + 31) / 32));
    sum_partials_kernel<S><<<blocks, kSumWarps * 32, 0, stream>>>(
        static_cast<const AccumulateOf<S>*>(partial), static_cast<S*>(sums), static_cast<int>(partials),
        static_cast<int>(width));
  });
}

}  // namespace fwl::cuda
