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

template <typename Scalar, int kCount>
__global__ void __launch_bounds__(kThreads)
    step_rows_kernel(const Scalar* x, const Scalar* r, const Scalar* scale, Scalar* y, int64_t of_rows,
                     int64_t rows, int64_t width) {
  const Place place(width / kCount, of_rows, kCount);
  if (place.column >= width) return;
  const Vector<Scalar, kCount> factor = load_vector<kCount>(scale + place.column);
  for (int64_t first = place.first_row; first < rows; first += place.stride * kRowsAtOnce) {
    Vector<Scalar, kCount> a[kRowsAtOnce], b[kRowsAtOnce];
#pragma unroll
    for (int i = 0; i < kRowsAtOnce; ++i) {
      const int64_t row = first + i * place.stride;
      if (row >= rows) continue;
      a[i] = load_vector<kCount>(x + row * width + place.column);
      b[i] = load_vector<kCount>(r + row * width + place.column);
    }
#pragma unroll
    for (int i = 0; i < kRowsAtOnce; ++i) {
      const int64_t row = first + i * place.stride;
      if (row >= rows) continue;
#pragma unroll
      for (int e = 0; e < kCount; ++e)
        a[i].at[e] = narrow<Scalar>(widen(a[i].at[e]) - widen(factor.at[e]) * widen(b[i].at[e]));
      store_vector(y + row * width + place.column, a[i]);
    }
  }
}

template <typename Scalar, int kCount>
__global__ void __launch_bounds__(kThreads)
    step_rows_backward_kernel(const Scalar* y_bar, const Scalar* r, const Scalar* scale, Scalar* r_bar,
                              AccumulateOf<Scalar>* partial, int64_t of_rows, int64_t rows, int64_t width) {
  using A = AccumulateOf<Scalar>;
  const Place place(width / kCount, of_rows, kCount);
  if (place.column >= width) return;
  const Vector<Scalar, kCount> factor = load_vector<kCount>(scale + place.column);
  A sum[kCount] = {};
  for (int64_t first = place.first_row; first < rows; first += place.stride * kRowsAtOnce) {
    Vector<Scalar, kCount> bar[kRowsAtOnce], b[kRowsAtOnce];
#pragma unroll
    for (int i = 0; i < kRowsAtOnce; ++i) {
      const int64_t row = first + i * place.stride;
      if (row >= rows) continue;
      bar[i] = load_vector<kCount>(y_bar + row * width + place.column);
      b[i] = load_vector<kCount>(r + row * width + place.column);
    }
#pragma unroll
    for (int i = 0; i < kRowsAtOnce; ++i) {
      const int64_t row = first + i * place.stride;
      if (row >= rows) continue;
#pragma unroll
      for (int e = 0; e < kCount; ++e) {
        sum[e] -= widen(bar[i].at[e]) * widen(b[i].at[e]);
        bar[i].at[e] = narrow<Scalar>(-widen(factor.at[e]) * widen(bar[i].at[e]));
      }
      store_vector(r_bar + row * width + place.column, bar[i]);
    }
  }
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
        static_cast<const S*>(x), static_cast<const S*>(r), static_cast<const S*>(scale), static_cast<S*>(y),
        of_rows, rows, width);
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
            static_cast<const S*>(y_bar), static_cast<const S*>(r), static_cast<const S*>(scale),
            static_cast<S*>(r_bar), static_cast<AccumulateOf<S>*>(partial), partials, rows, width);
  });
}

}  // namespace fwl::cuda
