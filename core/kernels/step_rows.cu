// A thread has a vector of columns and walks over rows.
#include <algorithm>

#include "core/kernels/device.cuh"
#include "core/kernels/step_rows.cu.h"

namespace fwl::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kRowsAtOnce = 4;  // that a thread has under way
constexpr int64_t kMostBlocks = 2048;

// Blocks beside one another take kThreads vectors of columns each; `of_rows` such groups share the rows.
struct Place {
  int64_t column, first_row, stride;
  __device__ Place(int64_t vectors, int64_t of_rows, int count) {
    const int64_t across = (vectors + kThreads - 1) / kThreads;
    column = (static_cast<int64_t>(blockIdx.x) % across * kThreads + threadIdx.x) * count;
    first_row = static_cast<int64_t>(blockIdx.x) / across;
    stride = of_rows;
  }
};

// Calls visit(row, vector of a, vector of b) for the rows of this thread's columns, several loads under way
// at once.
template <int kCount, typename Scalar, typename Visit>
__device__ void for_each_row(const Place& place, const Scalar* a, const Scalar* b, int64_t rows,
                             int64_t width, Visit visit) {
  for (int64_t first = place.first_row; first < rows; first += place.stride * kRowsAtOnce) {
    Vector<Scalar, kCount> from_a[kRowsAtOnce], from_b[kRowsAtOnce];
#pragma unroll
    for (int i = 0; i < kRowsAtOnce; ++i) {
      const int64_t row = first + i * place.stride;
      if (row >= rows) continue;
      from_a[i] = load_vector<kCount>(a + row * width + place.column);
      from_b[i] = load_vector<kCount>(b + row * width + place.column);
    }
#pragma unroll
    for (int i = 0; i < kRowsAtOnce; ++i) {
      const int64_t row = first + i * place.stride;
      if (row < rows) visit(row, from_a[i], from_b[i]);
    }
  }
}

// The scales of a thread's columns.
template <typename A, int kCount>
struct Scales {
  A at[kCount];
  __device__ explicit Scales(const A* first) {
    constexpr int kPiece = kVector<A>;
#pragma unroll
    for (int e = 0; e < kCount; e += kPiece) {
      const Vector<A, kPiece> piece = load_vector<kPiece>(first + e);
#pragma unroll
      for (int p = 0; p < kPiece; ++p) at[e + p] = piece.at[p];
    }
  }
};

template <typename Scalar, int kCount>
__global__ void __launch_bounds__(kThreads)
    step_rows_kernel(const Scalar* x, const Scalar* r, const AccumulateOf<Scalar>* scale, Scalar* y,
                     int64_t of_rows, int64_t rows, int64_t width) {
  const Place place(width / kCount, of_rows, kCount);
  if (place.column >= width) return;
  const Scales<AccumulateOf<Scalar>, kCount> factor(scale + place.column);
  using Columns = Vector<Scalar, kCount>;
  for_each_row<kCount>(place, x, r, rows, width, [&](int64_t row, Columns& a, const Columns& b) {
#pragma unroll
    for (int e = 0; e < kCount; ++e) a.at[e] = narrow<Scalar>(widen(a.at[e]) - factor.at[e] * widen(b.at[e]));
    store_vector_whole(y + row * width + place.column, a);
  });
}

template <typename Scalar, int kCount>
__global__ void __launch_bounds__(kThreads)
    step_rows_backward_kernel(const Scalar* y_bar, const Scalar* r, const AccumulateOf<Scalar>* scale,
                              Scalar* r_bar, AccumulateOf<Scalar>* partial, int64_t of_rows, int64_t rows,
                              int64_t width) {
  using A = AccumulateOf<Scalar>;
  const Place place(width / kCount, of_rows, kCount);
  if (place.column >= width) return;
  const Scales<A, kCount> factor(scale + place.column);
  A sum[kCount] = {};
  using Columns = Vector<Scalar, kCount>;
  for_each_row<kCount>(place, y_bar, r, rows, width, [&](int64_t row, Columns& bar, const Columns& b) {
#pragma unroll
    for (int e = 0; e < kCount; ++e) {
      sum[e] -= widen(bar.at[e]) * widen(b.at[e]);
      bar.at[e] = narrow<Scalar>(-factor.at[e] * widen(bar.at[e]));
    }
    store_vector_whole(r_bar + row * width + place.column, bar);
  });
#pragma unroll
  for (int e = 0; e < kCount; ++e) partial[place.first_row * width + place.column + e] = sum[e];
}

template <typename Scalar>
int64_t blocks_across(int64_t width) {
  return (width / kVector<Scalar> + kThreads - 1) / kThreads;
}

}  // namespace

cudaError_t launch_step_rows(ScalarType type, const void* x, const void* r, const void* scale, void* y,
                             int64_t rows, int64_t width, cudaStream_t stream) {
  if (rows == 0) return cudaSuccess;
  return dispatch(type, [&](auto* tag) {
    using S = std::remove_pointer_t<decltype(tag)>;
    const int64_t across = blocks_across<S>(width),
                  of_rows = std::min((rows + kRowsAtOnce - 1) / kRowsAtOnce, kMostBlocks);
    step_rows_kernel<S, kVector<S>><<<static_cast<unsigned>(across * of_rows), kThreads, 0, stream>>>(
        static_cast<const S*>(x), static_cast<const S*>(r), static_cast<const AccumulateOf<S>*>(scale),
        static_cast<S*>(y), of_rows, rows, width);
  });
}

cudaError_t launch_step_rows_backward(ScalarType type, const void* y_bar, const void* r, const void* scale,
                                      void* r_bar, void* partial, int64_t partials, int64_t rows,
                                      int64_t width, cudaStream_t stream) {
  if (rows == 0) return cudaSuccess;
  return dispatch(type, [&](auto* tag) {
    using S = std::remove_pointer_t<decltype(tag)>;
    step_rows_backward_kernel<S, kVector<S>>
        <<<static_cast<unsigned>(blocks_across<S>(width) * partials), kThreads, 0, stream>>>(
            static_cast<const S*>(y_bar), static_cast<const S*>(r),
            static_cast<const AccumulateOf<S>*>(scale), static_cast<S*>(r_bar),
            static_cast<AccumulateOf<S>*>(partial), partials, rows, width);
  });
}

}  // namespace fwl::cuda
