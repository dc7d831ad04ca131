// The gradient of a norm as a function, and its own gradients: what the layer's second order goes through
// (norm_rows.cuh; formulas: core/fast_weight/norm_gradient.h).
#include <algorithm>

#include "core/kernels/norm.cu.h"
#include "core/kernels/norm_rows.cuh"

namespace fwl::cuda {
namespace {

template <int kVectors>
constexpr int kForwardBlocks = kVectors <= 3 ? 3 : 2;  // of a multiprocessor

// g = A r of the header for r = scale q.
template <typename Scalar, int kVectors, int kGroup>
__global__ void __launch_bounds__(kThreads, kForwardBlocks<kVectors>)
    norm_gradient_kernel(const Scalar* o, const Scalar* scale, const Scalar* q, AccumulateOf<Scalar> epsilon,
                         Scalar* g, AccumulateOf<Scalar>* mean, AccumulateOf<Scalar>* inverse_sigma,
                         int64_t rows, int width) {
  using L = Lane<Scalar, kVectors, kGroup>;
  using A = typename L::A;
  extern __shared__ __align__(16) unsigned char shared_bytes[];
  const Queue<L, 2, 1> queue{reinterpret_cast<typename L::Columns*>(shared_bytes), {o, q}, rows, width};
  const A share = A(1) / static_cast<A>(width);
  const int64_t stride = static_cast<int64_t>(gridDim.x) * L::kGroups;
  int64_t row = static_cast<int64_t>(blockIdx.x) * L::kGroups + L::group();
  queue.fetch(0, row);
  int turn = 0;
  for (int64_t first = row - L::group(); first < rows; first += stride, row += stride) {
    wait_for_copies<0>();
    const bool here = row < rows;
    A xhat[kVectors][L::kCount], r[kVectors][L::kCount];
    A m[1] = {0}, variance[1] = {0}, both[2] = {0, 0};  // both: of r and of r xhat
    L::for_each(width, [&](int i, int column) {
      if (!here) return;
      const typename L::Columns x = queue.at(0, 0, i), own = queue.at(0, 1, i),
                                factor = load_vector<L::kCount>(scale + column);
#pragma unroll
      for (int e = 0; e < L::kCount; ++e) {
        xhat[i][e] = widen(x.at[e]);
        r[i][e] = widen(own.at[e]) * widen(factor.at[e]);
        m[0] += xhat[i][e];
      }
    });
    queue.fetch(0, row + stride);
    sum_over_group<kGroup>(m, turn);
    m[0] *= share;
    L::for_each(width, [&](int i, int) {
      if (!here) return;
#pragma unroll
      for (int e = 0; e < L::kCount; ++e) {
        xhat[i][e] -= m[0];
        variance[0] += xhat[i][e] * xhat[i][e];
      }
    });
    sum_over_group<kGroup>(variance, turn);
    const A inverse = A(1) / sqrt(variance[0] * share + epsilon);
    L::for_each(width, [&](int i, int) {
      if (!here) return;
#pragma unroll
      for (int e = 0; e < L::kCount; ++e) {
        xhat[i][e] *= inverse;
        both[0] += r[i][e];
        both[1] += r[i][e] * xhat[i][e];
      }
    });
    sum_over_group<kGroup>(both, turn);
    if (!here) continue;
    L::for_each(width, [&](int i, int column) {
      typename L::Columns out;
#pragma unroll
      for (int e = 0; e < L::kCount; ++e)
        out.at[e] = narrow<Scalar>((r[i][e] - both[0] * share - xhat[i][e] * both[1] * share) * inverse);
      store_vector(g + row * width + column, out);
    });
    if (threadIdx.x % (32 * kGroup) != 0) continue;
    mean[row] = m[0];
    inverse_sigma[row] = inverse;
  }
}

constexpr int kBackwardStages = 2;

// r = scale q, r_bar = A v, q_bar = scale r_bar, scale_bar = sum of q r_bar,
// xhat_bar = -(v mean(r xhat) + r mean(v xhat)) / sigma, sigma_bar / d = -mean(v g) / sigma with g = A r,
// o_bar = A xhat_bar + sigma_bar / d xhat. Every mean over a row in them follows from five sums.
template <typename Scalar, int kVectors, int kGroup>
__global__ void __launch_bounds__(kThreads, 1)
    norm_gradient_backward_kernel(const Scalar* o, const Scalar* scale, const Scalar* q,
                                  const AccumulateOf<Scalar>* mean, const AccumulateOf<Scalar>* inverse_sigma,
                                  const Scalar* v, Scalar* o_bar, Scalar* q_bar,
                                  AccumulateOf<Scalar>* scale_partial, int64_t rows, int width) {
  using L = Lane<Scalar, kVectors, kGroup>;
  using A = typename L::A;
  using Columns = typename L::Columns;
  extern __shared__ __align__(16) unsigned char shared_bytes[];
  const Queue<L, 3, kBackwardStages> queue{reinterpret_cast<Columns*>(shared_bytes), {o, q, v}, rows, width};
  const A share = A(1) / static_cast<A>(width);
  const int64_t stride = static_cast<int64_t>(gridDim.x) * L::kGroups;
  int64_t row = static_cast<int64_t>(blockIdx.x) * L::kGroups + L::group();
#pragma unroll
  for (int k = 0; k < kBackwardStages; ++k) queue.fetch(k, row + k * stride);
  Columns factor[kVectors];
  A scale_bar[kVectors][L::kCount] = {};
  L::for_each(width, [&](int i, int column) { factor[i] = load_vector<L::kCount>(scale + column); });
  const auto of_row = [&](const A* statistic, int64_t r) { return r < rows ? statistic[r] : A(0); };
  A m = of_row(mean, row), inverse = of_row(inverse_sigma, row);
  int turn = 0, stage = 0;
  for (int64_t first = row - L::group(); first < rows; first += stride, row += stride) {
    wait_for_copies<kBackwardStages - 1>();
    const A next_m = of_row(mean, row + stride), next_inverse = of_row(inverse_sigma, row + stride);
    const bool here = row < rows;
    A sums[5] = {0, 0, 0, 0, 0};  // of v, v xhat, r, r xhat, v r
    L::for_each(width, [&](int i, int) {
      if (!here) return;
      const Columns x = queue.at(stage, 0, i), own_q = queue.at(stage, 1, i), own_v = queue.at(stage, 2, i);
#pragma unroll
      for (int e = 0; e < L::kCount; ++e) {
        const A xhat = (widen(x.at[e]) - m) * inverse, cotangent = widen(own_v.at[e]),
                r = widen(own_q.at[e]) * widen(factor[i].at[e]);
        sums[0] += cotangent;
        sums[1] += cotangent * xhat;
        sums[2] += r;
        sums[3] += r * xhat;
        sums[4] += cotangent * r;
      }
    });
    sum_over_group<kGroup>(sums, turn);
#pragma unroll
    for (A& sum : sums) sum *= share;
    const A v_average = sums[0], v_along = sums[1], r_average = sums[2], r_along = sums[3];
    const A v_dot_g = inverse * (sums[4] - v_average * r_average - v_along * r_along);
    const A average = -inverse * (v_average * r_along + r_average * v_along),
            along = -2 * inverse * r_along * v_along;  // of xhat_bar
    L::for_each(width, [&](int i, int column) {
      if (!here) return;
      const Columns x = queue.at(stage, 0, i), own_q = queue.at(stage, 1, i), own_v = queue.at(stage, 2, i);
      Columns to_o, to_q;
#pragma unroll
      for (int e = 0; e < L::kCount; ++e) {
        const A xhat = (widen(x.at[e]) - m) * inverse, cotangent = widen(own_v.at[e]),
                of_q = widen(own_q.at[e]), s = widen(factor[i].at[e]);
        const A r_bar = (cotangent - v_average - xhat * v_along) * inverse;
        scale_bar[i][e] += of_q * r_bar;
        to_q.at[e] = narrow<Scalar>(s * r_bar);
        const A xhat_bar = -inverse * (cotangent * r_along + of_q * s * v_along);
        to_o.at[e] = narrow<Scalar>((xhat_bar - average - xhat * (along + v_dot_g)) * inverse);
      }
      store_vector(q_bar + row * width + column, to_q);
      store_vector(o_bar + row * width + column, to_o);
    });
    queue.fetch(stage, row + kBackwardStages * stride);
    stage = (stage + 1) % kBackwardStages;
    m = next_m;
    inverse = next_inverse;
  }
  sum_over_groups<L>(scale_bar, reinterpret_cast<A*>(shared_bytes), scale_partial, width);
}

}  // namespace

cudaError_t launch_norm_gradient(ScalarType type, const void* o, const void* scale, const void* q,
                                 double epsilon, void* g, void* mean, void* inverse_sigma, int64_t rows,
                                 int64_t width, cudaStream_t stream) {
  if (rows == 0) return cudaSuccess;
  return dispatch(type, [&](auto* tag) {
    using S = std::remove_pointer_t<decltype(tag)>;
    using A = AccumulateOf<S>;
    for_width<S>(width, [&](auto vectors, auto group) {
      constexpr int kVectors = decltype(vectors)::value, kGroup = decltype(group)::value;
      using L = Lane<S, kVectors, kGroup>;
      constexpr size_t kBytes = Queue<L, 2, 1>::kBytes;
      const auto kernel = norm_gradient_kernel<S, kVectors, kGroup>;
      allow_shared(kernel, kBytes);
      kernel<<<blocks_of(rows, L::kGroups, kForwardBlocks<kVectors>), kThreads, kBytes, stream>>>(
          static_cast<const S*>(o), static_cast<const S*>(scale), static_cast<const S*>(q),
          static_cast<A>(epsilon), static_cast<S*>(g), static_cast<A*>(mean), static_cast<A*>(inverse_sigma),
          rows, static_cast<int>(width));
    });
  });
}

cudaError_t launch_norm_gradient_backward(ScalarType type, const void* o, const void* scale, const void* q,
                                          const void* mean, const void* inverse_sigma, const void* v,
                                          void* o_bar, void* q_bar, void* scale_partial, int64_t partials,
                                          int64_t rows, int64_t width, cudaStream_t stream) {
  return dispatch(type, [&](auto* tag) {
    using S = std::remove_pointer_t<decltype(tag)>;
    using A = AccumulateOf<S>;
    for_width<S>(width, [&](auto vectors, auto group) {
      constexpr int kVectors = decltype(vectors)::value, kGroup = decltype(group)::value;
      using L = Lane<S, kVectors, kGroup>;
      const size_t bytes = std::max(Queue<L, 3, kBackwardStages>::kBytes, L::sums_bytes(width));
      const auto kernel = norm_gradient_backward_kernel<S, kVectors, kGroup>;
      allow_shared(kernel, bytes);
      kernel<<<static_cast<unsigned>(partials), kThreads, bytes, stream>>>(
          static_cast<const S*>(o), static_cast<const S*>(scale), static_cast<const S*>(q),
          static_cast<const A*>(mean), static_cast<const A*>(inverse_sigma), static_cast<const S*>(v),
          static_cast<S*>(o_bar), static_cast<S*>(q_bar), static_cast<A*>(scale_partial), rows,
          static_cast<int>(width));
    });
  });
}

}  // namespace fwl::cuda
