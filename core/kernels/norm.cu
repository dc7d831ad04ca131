// Norms with the addition before them, and their gradients (norm_rows.cuh). The gradients of scale and bias
// are summed over a block's rows in registers, over its warps in shared memory in fixed order, and over
// blocks by partial_sums.cu: the same bits every time.
#include <algorithm>

#include "core/kernels/norm.cu.h"
#include "core/kernels/norm_rows.cuh"

namespace fwl::cuda {
namespace {

constexpr int kRowsAtOnce = 2;  // of a block whose threads own columns

template <typename Scalar, int kVectors>
__global__ void __launch_bounds__(kWarps * 32)
    add_norm_kernel(const Scalar* x, const Scalar* delta, const Scalar* scale, const Scalar* bias,
                    AccumulateOf<Scalar> epsilon, Scalar* sum, Scalar* norm, AccumulateOf<Scalar>* mean,
                    AccumulateOf<Scalar>* inverse_sigma, int64_t rows, int width) {
  using R = Row<Scalar, kVectors>;
  using A = AccumulateOf<Scalar>;
  const int64_t row = warp_of_grid();
  if (row >= rows) return;
  R r, other;
  r.load(x + row * width, width);
  if (delta != nullptr) {
    other.load(delta + row * width, width);
    R::for_each(width, [&](int i, int e) { r.at[i][e] += other.at[i][e]; });
    r.round();
    r.store(sum + row * width, width);
  }
  A m, inverse;
  statistics(r, width, bias != nullptr, epsilon, &m, &inverse);
  other.load(scale, width);
  R::for_each(width, [&](int i, int e) { r.at[i][e] = (r.at[i][e] - m) * inverse * other.at[i][e]; });
  if (bias != nullptr) {
    other.load(bias, width);
    R::for_each(width, [&](int i, int e) { r.at[i][e] += other.at[i][e]; });
  }
  r.store(norm + row * width, width);
  if (threadIdx.x % 32 != 0) return;
  if (mean != nullptr) mean[row] = m;
  inverse_sigma[row] = inverse;
}

// Over the block's threads, which all call it; the same bits every time.
template <typename A>
__device__ A sum_over_block(A value) {
  __shared__ A partial[kMostVectors];
  value = warp_sum(value);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
  __syncthreads();
  A sum = 0;
  for (int w = 0; w < static_cast<int>(blockDim.x) / 32; ++w) sum += partial[w];
  __syncthreads();  // it is read before it is written again
  return sum;
}

// The same for rows that a warp's registers do not hold: a block a row, a vector of columns a thread.
template <typename Scalar>
__global__ void __launch_bounds__(kMostVectors * 32)
    add_norm_by_column_kernel(const Scalar* x, const Scalar* delta, const Scalar* scale, const Scalar* bias,
                              AccumulateOf<Scalar> epsilon, Scalar* sum, Scalar* norm,
                              AccumulateOf<Scalar>* mean, AccumulateOf<Scalar>* inverse_sigma, int width) {
  using A = AccumulateOf<Scalar>;
  constexpr int kCount = kVector<Scalar>;
  using Columns = Vector<Scalar, kCount>;
  const int64_t row = blockIdx.x;
  const int column = static_cast<int>(threadIdx.x) * kCount;
  const bool has_columns = column < width;
  A value[kCount] = {};
  if (has_columns) {
    Columns own = load_vector<kCount>(x + row * width + column);
    if (delta != nullptr) {
      const Columns other = load_vector<kCount>(delta + row * width + column);
#pragma unroll
      for (int e = 0; e < kCount; ++e) own.at[e] = narrow<Scalar>(widen(own.at[e]) + widen(other.at[e]));
      store_vector(sum + row * width + column, own);
    }
#pragma unroll
    for (int e = 0; e < kCount; ++e) value[e] = widen(own.at[e]);
  }
  A m = 0;
  if (bias != nullptr) {
    A own = 0;
#pragma unroll
    for (int e = 0; e < kCount; ++e) own += value[e];
    m = sum_over_block(own) / static_cast<A>(width);
  }
  A squares = 0;
#pragma unroll
  for (int e = 0; e < kCount; ++e) squares += has_columns ? (value[e] - m) * (value[e] - m) : A(0);
  const A inverse = A(1) / sqrt(sum_over_block(squares) / static_cast<A>(width) + epsilon);
  if (threadIdx.x == 0) {
    if (mean != nullptr) mean[row] = m;
    inverse_sigma[row] = inverse;
  }
  if (!has_columns) return;
  const Columns factor = load_vector<kCount>(scale + column);
  Columns out, shift;
  if (bias != nullptr) shift = load_vector<kCount>(bias + column);
#pragma unroll
  for (int e = 0; e < kCount; ++e) {
    const A normed = (value[e] - m) * inverse * widen(factor.at[e]);
    out.at[e] = narrow<Scalar>(bias != nullptr ? normed + widen(shift.at[e]) : normed);
  }
  store_vector(norm + row * width + column, out);
}

template <typename Scalar, int kVectors>
__global__ void __launch_bounds__(kWarps * 32)
    add_norm_backward_kernel(const Scalar* sum, const Scalar* scale, const AccumulateOf<Scalar>* mean,
                             const AccumulateOf<Scalar>* inverse_sigma, const Scalar* norm_bar,
                             const Scalar* sum_bar, Scalar* x_bar, AccumulateOf<Scalar>* scale_partial,
                             AccumulateOf<Scalar>* bias_partial, int64_t rows, int width) {
  using R = Row<Scalar, kVectors>;
  using A = AccumulateOf<Scalar>;
  extern __shared__ __align__(16) unsigned char shared_bytes[];
  const bool center = bias_partial != nullptr;
  R scale_bar, bias_bar;
  scale_bar.clear();
  bias_bar.clear();
  for (int64_t row = warp_of_grid(); row < rows; row += static_cast<int64_t>(gridDim.x) * kWarps) {
    const A m = center ? mean[row] : A(0), inverse = inverse_sigma[row];
    // All loads first: a warp has few rows under way, and memory is far.
    typename R::Raw raw_sum, raw_norm_bar, raw_sum_bar;
    raw_sum.load(sum + row * width, width);
    raw_norm_bar.load(norm_bar + row * width, width);
    if (sum_bar != nullptr) raw_sum_bar.load(sum_bar + row * width, width);
    R xhat, g;
    xhat.take(raw_sum, width);
    g.take(raw_norm_bar, width);
    R::for_each(width, [&](int i, int e) {
      xhat.at[i][e] = (xhat.at[i][e] - m) * inverse;
      scale_bar.at[i][e] += g.at[i][e] * xhat.at[i][e];
      bias_bar.at[i][e] += g.at[i][e];
    });
    {
      R s;
      s.load(scale, width);
      R::for_each(width, [&](int i, int e) { g.at[i][e] *= s.at[i][e]; });
    }
    const A along = row_mean<R>(width, [&](int i, int e) { return g.at[i][e] * xhat.at[i][e]; });
    const A average = center ? row_mean<R>(width, [&](int i, int e) { return g.at[i][e]; }) : A(0);
    R::for_each(width,
                [&](int i, int e) { g.at[i][e] = (g.at[i][e] - average - xhat.at[i][e] * along) * inverse; });
    if (sum_bar != nullptr) {
      xhat.take(raw_sum_bar, width);
      R::for_each(width, [&](int i, int e) { g.at[i][e] += xhat.at[i][e]; });
    }
    g.store(x_bar + row * width, width);
  }
  A* const shared = reinterpret_cast<A*>(shared_bytes);
  sum_over_warps(scale_bar, shared, scale_partial, width);
  if (center) sum_over_warps(bias_bar, shared, bias_partial, width);
}

// The same for wide rows, of which a lane would hold more than its registers do: a thread owns a vector of
// columns of every row of its block, and the sums over a row go through shared memory.
template <typename Scalar>
__global__ void __launch_bounds__(kMostVectors * 32)
    add_norm_backward_by_column_kernel(const Scalar* sum, const Scalar* scale,
                                       const AccumulateOf<Scalar>* mean,
                                       const AccumulateOf<Scalar>* inverse_sigma, const Scalar* norm_bar,
                                       const Scalar* sum_bar, Scalar* x_bar,
                                       AccumulateOf<Scalar>* scale_partial,
                                       AccumulateOf<Scalar>* bias_partial, int64_t rows, int width) {
  using A = AccumulateOf<Scalar>;
  constexpr int kCount = kVector<Scalar>;
  using Columns = Vector<Scalar, kCount>;
  __shared__ A partial[2][kMostVectors][2 * kRowsAtOnce];  // of a warp; the two are written in turns
  const bool center = bias_partial != nullptr;
  const int column = static_cast<int>(threadIdx.x) * kCount, warp = static_cast<int>(threadIdx.x) / 32;
  const int warps = (width + 32 * kCount - 1) / (32 * kCount);
  const bool has_columns = column < width;
  A scale_bar[kCount] = {}, bias_bar[kCount] = {}, factor[kCount] = {};
  if (has_columns) {
    const Columns s = load_vector<kCount>(scale + column);
#pragma unroll
    for (int e = 0; e < kCount; ++e) factor[e] = widen(s.at[e]);
  }
  int turn = 0;
  for (int64_t first = static_cast<int64_t>(blockIdx.x) * kRowsAtOnce; first < rows;
       first += static_cast<int64_t>(gridDim.x) * kRowsAtOnce, turn ^= 1) {
    // All loads first: memory is far.
    Columns x[kRowsAtOnce], g[kRowsAtOnce], residual[kRowsAtOnce];
    A m[kRowsAtOnce], inverse[kRowsAtOnce];
#pragma unroll
    for (int r = 0; r < kRowsAtOnce; ++r) {
      if (first + r >= rows || !has_columns) continue;
      const int64_t at = (first + r) * width + column;
      x[r] = load_vector<kCount>(sum + at);
      g[r] = load_vector<kCount>(norm_bar + at);
      if (sum_bar != nullptr) residual[r] = load_vector<kCount>(sum_bar + at);
      m[r] = center ? mean[first + r] : A(0);
      inverse[r] = inverse_sigma[first + r];
    }
#pragma unroll
    for (int r = 0; r < kRowsAtOnce; ++r) {
      A average = 0, along = 0;
      if (first + r < rows && has_columns) {
#pragma unroll
        for (int e = 0; e < kCount; ++e) {
          const A xhat = (widen(x[r].at[e]) - m[r]) * inverse[r], own = widen(g[r].at[e]);
          scale_bar[e] += own * xhat;
          bias_bar[e] += own;
          average += own * factor[e];
          along += own * factor[e] * xhat;
        }
      }
      average = warp_sum(average);
      along = warp_sum(along);
      if (threadIdx.x % 32 == 0) {
        partial[turn][warp][2 * r] = average;
        partial[turn][warp][2 * r + 1] = along;
      }
    }
    __syncthreads();
#pragma unroll
    for (int r = 0; r < kRowsAtOnce; ++r) {
      if (first + r >= rows || !has_columns) continue;
      A average = 0, along = 0;
      for (int w = 0; w < warps; ++w) {
        average += partial[turn][w][2 * r];
        along += partial[turn][w][2 * r + 1];
      }
      average = center ? average / static_cast<A>(width) : A(0);
      along /= static_cast<A>(width);
      Columns out;
#pragma unroll
      for (int e = 0; e < kCount; ++e) {
        const A xhat = (widen(x[r].at[e]) - m[r]) * inverse[r];
        const A own = (widen(g[r].at[e]) * factor[e] - average - xhat * along) * inverse[r];
        out.at[e] = narrow<Scalar>(sum_bar != nullptr ? own + widen(residual[r].at[e]) : own);
      }
      store_vector(x_bar + (first + r) * width + column, out);
    }
  }
  if (!has_columns) return;
  const int64_t to = static_cast<int64_t>(blockIdx.x) * width + column;
#pragma unroll
  for (int e = 0; e < kCount; ++e) {
    scale_partial[to + e] = scale_bar[e];
    if (center) bias_partial[to + e] = bias_bar[e];
  }
}

// A lane's registers hold a row of up to eight vectors and its sum, and sums over rows of up to three.
template <typename Scalar>
constexpr int64_t kWidestForwardByRow = 8 * 32 * kVector<Scalar>;
template <typename Scalar>
constexpr int64_t kWidestByRow = 3 * 32 * kVector<Scalar>;

// Threads of a block that owns a vector of columns each.
template <typename Scalar>
unsigned column_threads(int64_t width) {
  return static_cast<unsigned>((width / kVector<Scalar> + 31) / 32 * 32);
}

}  // namespace

bool norm_width_fits(ScalarType type, int64_t width) {
  const int64_t count = type == ScalarType::kDouble ? 2 : type == ScalarType::kFloat ? 4 : 8;
  return width % count == 0 && width <= count * 32 * kMostVectors;
}

int64_t add_norm_backward_partials(ScalarType type, int64_t rows, int64_t width) {
  constexpr int64_t kMostByColumn = 2 * kNormPartials;
  bool by_row = true;
  dispatch(type, [&](auto* tag) { by_row = width <= kWidestByRow<std::remove_pointer_t<decltype(tag)>>; });
  const int64_t at_once = by_row ? kWarps : kRowsAtOnce;
  return std::clamp<int64_t>((rows + at_once - 1) / at_once, 1, by_row ? kNormPartials : kMostByColumn);
}

cudaError_t launch_add_norm(ScalarType type, const void* x, const void* delta, const void* scale,
                            const void* bias, double epsilon, void* sum, void* norm, void* mean,
                            void* inverse_sigma, int64_t rows, int64_t width, cudaStream_t stream) {
  if (rows == 0) return cudaSuccess;
  return dispatch(type, [&](auto* tag) {
    using S = std::remove_pointer_t<decltype(tag)>;
    using A = AccumulateOf<S>;
    if (width > kWidestForwardByRow<S>) {
      add_norm_by_column_kernel<S><<<static_cast<unsigned>(rows), column_threads<S>(width), 0, stream>>>(
          static_cast<const S*>(x), static_cast<const S*>(delta), static_cast<const S*>(scale),
          static_cast<const S*>(bias), static_cast<A>(epsilon), static_cast<S*>(sum), static_cast<S*>(norm),
          static_cast<A*>(mean), static_cast<A*>(inverse_sigma), static_cast<int>(width));
      return;
    }
    for_width<S>(width, [&](auto vectors) {
      add_norm_kernel<S, std::min(decltype(vectors)::value, 8)><<<blocks_of(rows), kWarps * 32, 0, stream>>>(
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
    if (width > kWidestByRow<S>) {
      add_norm_backward_by_column_kernel<S>
          <<<static_cast<unsigned>(partials), column_threads<S>(width), 0, stream>>>(
              static_cast<const S*>(sum), static_cast<const S*>(scale), static_cast<const A*>(mean),
              static_cast<const A*>(inverse_sigma), static_cast<const S*>(norm_bar),
              static_cast<const S*>(sum_bar), static_cast<S*>(x_bar), static_cast<A*>(scale_partial),
              static_cast<A*>(bias_partial), rows, static_cast<int>(width));
      return;
    }
    for_partials<S>(width, [&](auto vectors, size_t shared) {
      add_norm_backward_kernel<S, std::min(decltype(vectors)::value, 3)>
          <<<static_cast<unsigned>(partials), kWarps * 32, shared, stream>>>(
              static_cast<const S*>(sum), static_cast<const S*>(scale), static_cast<const A*>(mean),
              static_cast<const A*>(inverse_sigma), static_cast<const S*>(norm_bar),
              static_cast<const S*>(sum_bar), static_cast<S*>(x_bar), static_cast<A*>(scale_partial),
              static_cast<A*>(bias_partial), rows, static_cast<int>(width));
    });
  });
}

}  // namespace fwl::cuda
