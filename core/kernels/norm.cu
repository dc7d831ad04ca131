// Norms with the addition before them, and their gradients (norm_rows.cuh).
#include <algorithm>

#include "core/kernels/norm.cu.h"
#include "core/kernels/norm_rows.cuh"

namespace fwl::cuda {
namespace {

constexpr int kForwardStages = 1;  // a row is in registers once it has come
template <int kVectors>
constexpr int kForwardBlocks = kVectors <= 3 ? 4 : 3;  // of a multiprocessor

template <typename Scalar, int kVectors, int kGroup>
__global__ void __launch_bounds__(kThreads, kForwardBlocks<kVectors>)
    add_norm_kernel(const Scalar* x, const Scalar* delta, const Scalar* scale, const Scalar* bias,
                    AccumulateOf<Scalar> epsilon, Scalar* sum, Scalar* norm, AccumulateOf<Scalar>* mean,
                    AccumulateOf<Scalar>* inverse_sigma, int64_t rows, int width) {
  using L = Lane<Scalar, kVectors, kGroup>;
  using A = typename L::A;
  extern __shared__ __align__(16) unsigned char shared_bytes[];
  const Queue<L, 2, kForwardStages> queue{
      reinterpret_cast<typename L::Columns*>(shared_bytes), {x, delta}, rows, width};
  const int64_t stride = static_cast<int64_t>(gridDim.x) * L::kGroups;
  int64_t row = static_cast<int64_t>(blockIdx.x) * L::kGroups + L::group();
  queue.fetch(0, row);
  int turn = 0;
  // The block's groups go together: their warps may meet.
  for (int64_t first = row - L::group(); first < rows; first += stride, row += stride) {
    wait_for_copies<kForwardStages - 1>();
    const bool here = row < rows;
    A value[kVectors][L::kCount], m[1] = {0}, variance[1] = {0};
    L::for_each(width, [&](int i, int column) {
      if (!here) return;
      typename L::Columns v = queue.at(0, 0, i);
      if (delta != nullptr) {
        const typename L::Columns d = queue.at(0, 1, i);
#pragma unroll
        for (int e = 0; e < L::kCount; ++e) v.at[e] = narrow<Scalar>(widen(v.at[e]) + widen(d.at[e]));
        store_vector(sum + row * width + column, v);
      }
#pragma unroll
      for (int e = 0; e < L::kCount; ++e) {
        value[i][e] = widen(v.at[e]);
        m[0] += value[i][e];
      }
    });
    queue.fetch(0, row + stride);
    if (bias != nullptr) sum_over_group<kGroup>(m, turn);
    m[0] = bias != nullptr ? m[0] / static_cast<A>(width) : A(0);
    L::for_each(width, [&](int i, int) {
      if (!here) return;
#pragma unroll
      for (int e = 0; e < L::kCount; ++e) {
        value[i][e] -= m[0];
        variance[0] += value[i][e] * value[i][e];
      }
    });
    sum_over_group<kGroup>(variance, turn);
    if (!here) continue;
    const A inverse = A(1) / sqrt(variance[0] / static_cast<A>(width) + epsilon);
    L::for_each(width, [&](int i, int column) {
      const typename L::Columns factor = load_vector<L::kCount>(scale + column);
      typename L::Columns out, shift;
      if (bias != nullptr) shift = load_vector<L::kCount>(bias + column);
#pragma unroll
      for (int e = 0; e < L::kCount; ++e) {
        const A normed = value[i][e] * inverse * widen(factor.at[e]);
        out.at[e] = narrow<Scalar>(bias != nullptr ? normed + widen(shift.at[e]) : normed);
      }
      store_vector(norm + row * width + column, out);
    });
    if (threadIdx.x % (32 * kGroup) != 0) continue;
    if (mean != nullptr) mean[row] = m[0];
    inverse_sigma[row] = inverse;
  }
}

constexpr int kBackwardStages = 2;

template <typename Scalar, int kVectors, int kGroup>
__global__ void __launch_bounds__(kThreads, 1)
    add_norm_backward_kernel(const Scalar* sum, const Scalar* scale, const AccumulateOf<Scalar>* mean,
                             const AccumulateOf<Scalar>* inverse_sigma, const Scalar* norm_bar,
                             const Scalar* sum_bar, Scalar* x_bar, AccumulateOf<Scalar>* scale_partial,
                             AccumulateOf<Scalar>* bias_partial, int64_t rows, int width) {
  using L = Lane<Scalar, kVectors, kGroup>;
  using A = typename L::A;
  using Columns = typename L::Columns;
  extern __shared__ __align__(16) unsigned char shared_bytes[];
  const Queue<L, 3, kBackwardStages> queue{
      reinterpret_cast<Columns*>(shared_bytes), {sum, norm_bar, sum_bar}, rows, width};
  const bool center = bias_partial != nullptr;
  const int64_t stride = static_cast<int64_t>(gridDim.x) * L::kGroups;
  int64_t row = static_cast<int64_t>(blockIdx.x) * L::kGroups + L::group();
#pragma unroll
  for (int k = 0; k < kBackwardStages; ++k) queue.fetch(k, row + k * stride);
  Columns factor[kVectors];
  A scale_bar[kVectors][L::kCount] = {}, bias_bar[kVectors][L::kCount] = {};
  L::for_each(width, [&](int i, int column) { factor[i] = load_vector<L::kCount>(scale + column); });
  const auto mean_of = [&](int64_t r) { return center && r < rows ? mean[r] : A(0); };
  const auto inverse_of = [&](int64_t r) { return r < rows ? inverse_sigma[r] : A(0); };
  A m = mean_of(row), inverse = inverse_of(row);
  int turn = 0, stage = 0;
  for (int64_t first = row - L::group(); first < rows; first += stride, row += stride) {
    wait_for_copies<kBackwardStages - 1>();
    const A next_m = mean_of(row + stride), next_inverse = inverse_of(row + stride);
    const bool here = row < rows;
    A both[2] = {0, 0};  // sums over the row of scale g and of scale g xhat
    L::for_each(width, [&](int i, int) {
      if (!here) return;
      const Columns x = queue.at(stage, 0, i), g = queue.at(stage, 1, i);
#pragma unroll
      for (int e = 0; e < L::kCount; ++e) {
        const A xhat = (widen(x.at[e]) - m) * inverse, own = widen(g.at[e]);
        scale_bar[i][e] += own * xhat;
        bias_bar[i][e] += own;
        const A scaled = own * widen(factor[i].at[e]);
        both[0] += scaled;
        both[1] += scaled * xhat;
      }
    });
    sum_over_group<kGroup>(both, turn);
    const A average = center ? both[0] / static_cast<A>(width) : A(0),
            along = both[1] / static_cast<A>(width);
    L::for_each(width, [&](int i, int column) {
      if (!here) return;
      const Columns x = queue.at(stage, 0, i), g = queue.at(stage, 1, i);
      Columns residual, out;
      if (sum_bar != nullptr) residual = queue.at(stage, 2, i);
#pragma unroll
      for (int e = 0; e < L::kCount; ++e) {
        const A xhat = (widen(x.at[e]) - m) * inverse;
        const A own = (widen(g.at[e]) * widen(factor[i].at[e]) - average - xhat * along) * inverse;
        out.at[e] = narrow<Scalar>(sum_bar != nullptr ? own + widen(residual.at[e]) : own);
      }
      store_vector(x_bar + row * width + column, out);
    });
    queue.fetch(stage, row + kBackwardStages * stride);
    stage = (stage + 1) % kBackwardStages;
    m = next_m;
    inverse = next_inverse;
  }
  A* const shared = reinterpret_cast<A*>(shared_bytes);
  sum_over_groups<L>(scale_bar, shared, scale_partial, width);
  if (center) sum_over_groups<L>(bias_bar, shared, bias_partial, width);
}

}  // namespace

int64_t norm_backward_partials(ScalarType type, int64_t rows, int64_t width) {
  int64_t partials = 1;
  dispatch(type, [&](auto* tag) {
    using S = std::remove_pointer_t<decltype(tag)>;
    for_width<S>(width, [&](auto, auto group) { partials = blocks_of(rows, kWarps / group, 1); });
  });
  return partials;
}

cudaError_t launch_add_norm(ScalarType type, const void* x, const void* delta, const void* scale,
                            const void* bias, double epsilon, void* sum, void* norm, void* mean,
                            void* inverse_sigma, int64_t rows, int64_t width, cudaStream_t stream) {
  if (rows == 0) return cudaSuccess;
  return dispatch(type, [&](auto* tag) {
    using S = std::remove_pointer_t<decltype(tag)>;
    using A = AccumulateOf<S>;
    for_width<S>(width, [&](auto vectors, auto group) {
      constexpr int kVectors = decltype(vectors)::value, kGroup = decltype(group)::value;
      using L = Lane<S, kVectors, kGroup>;
      constexpr size_t kBytes = Queue<L, 2, kForwardStages>::kBytes;
      const auto kernel = add_norm_kernel<S, kVectors, kGroup>;
      allow_shared(kernel, kBytes);
      kernel<<<blocks_of(rows, L::kGroups, kForwardBlocks<kVectors>), kThreads, kBytes, stream>>>(
          static_cast<const S*>(x), static_cast<const S*>(delta), static_cast<const S*>(scale),
          static_cast<const S*>(bias), static_cast<A>(epsilon), static_cast<S*>(sum), static_cast<S*>(norm),
          static_cast<A*>(mean), static_cast<A*>(inverse_sigma), rows, static_cast<int>(width));
    });
  });
}

cudaError_t launch_add_norm_backward(ScalarType type, const void* sum, const void* scale, const void* mean,
                                     const void* inverse_sigma, const void* norm_bar, const void* sum_bar,
                                     void* x_bar, void* scale_partial, void* bias_partial, int64_t partials,
                                     int64_t rows, int64_t width, cudaStream_t stream) {
  return dispatch(type, [&](auto* tag) {
    using S = std::remove_pointer_t<decltype(tag)>;
    using A = AccumulateOf<S>;
    for_width<S>(width, [&](auto vectors, auto group) {
      constexpr int kVectors = decltype(vectors)::value, kGroup = decltype(group)::value;
      using L = Lane<S, kVectors, kGroup>;
      const size_t bytes = std::max(Queue<L, 3, kBackwardStages>::kBytes, L::sums_bytes(width));
      const auto kernel = add_norm_backward_kernel<S, kVectors, kGroup>;
      allow_shared(kernel, bytes);
      kernel<<<static_cast<unsigned>(partials), kThreads, bytes, stream>>>(
          static_cast<const S*>(sum), static_cast<const S*>(scale), static_cast<const A*>(mean),
          static_cast<const A*>(inverse_sigma), static_cast<const S*>(norm_bar),
          static_cast<const S*>(sum_bar), static_cast<S*>(x_bar), static_cast<A*>(scale_partial),
          static_cast<A*>(bias_partial), rows, static_cast<int>(width));
    });
  });
}

}  // namespace fwl::cuda
