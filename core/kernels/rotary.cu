// One thread per vector of the first halves of the heads, together with the vector of the second half that it
// is rotated with.
#include <algorithm>

#include "core/kernels/device.cuh"
#include "core/kernels/rotary.cu.h"

namespace fwl::cuda {
namespace {

constexpr int kThreads = 256;

// Rotates the pair (a, b) by the angle, or back.
template <bool kBack, typename Scalar, int kCount>
__device__ void rotate(Vector<Scalar, kCount>& a, Vector<Scalar, kCount>& b,
                       const AccumulateOf<Scalar>* cosine, const AccumulateOf<Scalar>* sine) {
  using A = AccumulateOf<Scalar>;
#pragma unroll
  for (int e = 0; e < kCount; ++e) {
    const A x = widen(a.at[e]), y = widen(b.at[e]), c = cosine[e], s = kBack ? -sine[e] : sine[e];
    a.at[e] = narrow<Scalar>(x * c - y * s);
    b.at[e] = narrow<Scalar>(x * s + y * c);
  }
}

// The index of a thread in [B * T, parts, H, E / 2 / kCount].
struct Place {
  int64_t position, element;  // position: b * T + t; element: first of the vector
  int part, head;
};
__device__ inline Place place_of(int64_t index, int parts, int heads, int vectors) {
  Place p;
  p.element = index % vectors;
  index /= vectors;
  p.head = static_cast<int>(index % heads);
  index /= heads;
  p.part = static_cast<int>(index % parts);
  p.position = index / parts;
  return p;
}

template <typename Scalar, int kCount, bool kBack>
__global__ void __launch_bounds__(kThreads)
    rotate_kernel(Scalar* qkv, const AccumulateOf<Scalar>* cosine, const AccumulateOf<Scalar>* sine,
                  QkvShape shape, int64_t count) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= count) return;
  const int half = static_cast<int>(shape.head_dim / 2), heads = static_cast<int>(shape.heads);
  const Place p = place_of(index, 2, heads, half / kCount);
  const int64_t element = p.element * kCount;
  Scalar* const first = qkv + ((p.position * 3 + p.part) * heads + p.head) * shape.head_dim + element;
  const int64_t angle = (p.position % shape.length) * half + element;
  auto a = load_vector<kCount>(first), b = load_vector<kCount>(first + half);
  rotate<kBack>(a, b, cosine + angle, sine + angle);
  store_vector(first, a);
  store_vector(first + half, b);
}

template <typename Scalar, int kCount>
__global__ void __launch_bounds__(kThreads)
    gather_kernel(Strided queries, Strided keys, Strided values, const AccumulateOf<Scalar>* cosine,
                  const AccumulateOf<Scalar>* sine, Scalar* qkv_bar, QkvShape shape, int64_t count) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= count) return;
  const int half = static_cast<int>(shape.head_dim / 2), heads = static_cast<int>(shape.heads);
  const Place p = place_of(index, 3, heads, half / kCount);
  const int64_t element = p.element * kCount;
  const int64_t b = p.position / shape.length, t = p.position % shape.length;
  const Strided part = p.part == 0 ? queries : p.part == 1 ? keys : values;
  Vector<Scalar, kCount> x{}, y{};
  if (part.data != nullptr) {
    const Scalar* const from = static_cast<const Scalar*>(part.data) + b * part.batch_stride +
                               p.head * part.head_stride + t * part.position_stride + element;
    x = load_vector<kCount>(from);
    y = load_vector<kCount>(from + half);
  }
  if (p.part < 2 && cosine != nullptr)
    rotate<true>(x, y, cosine + t * half + element, sine + t * half + element);
  Scalar* const to = qkv_bar + ((p.position * 3 + p.part) * heads + p.head) * shape.head_dim + element;
  store_vector(to, x);
  store_vector(to + half, y);
}

bool is_aligned(const Strided& s, int count) {
  return on_vectors(s.data) && s.batch_stride % count == 0 && s.head_stride % count == 0 &&
         s.position_stride % count == 0;
}

unsigned blocks_of(int64_t count) {
  return static_cast<unsigned>((count + kThreads - 1) / kThreads);
}

}  // namespace

cudaError_t launch_rotate_queries_keys(ScalarType type, void* qkv, const void* cosine, const void* sine,
                                       bool back, const QkvShape& shape, cudaStream_t stream) {
  const int64_t pairs = shape.batch * shape.length * 2 * shape.heads * (shape.head_dim / 2);
  if (pairs == 0) return cudaSuccess;
  return dispatch(type, [&](auto* tag) {
    using S = std::remove_pointer_t<decltype(tag)>;
    using A = AccumulateOf<S>;
    const auto run = [&](auto vector) {
      constexpr int kCount = decltype(vector)::value;
      const auto kernel = back ? rotate_kernel<S, kCount, true> : rotate_kernel<S, kCount, false>;
      kernel<<<blocks_of(pairs / kCount), kThreads, 0, stream>>>(
          static_cast<S*>(qkv), static_cast<const A*>(cosine), static_cast<const A*>(sine), shape,
          pairs / kCount);
    };
    if (on_vectors(qkv) && shape.head_dim / 2 % kVector<S> == 0) {
      run(std::integral_constant<int, kVector<S>>());
    } else {
      run(std::integral_constant<int, 1>());
    }
  });
}

cudaError_t launch_gather_qkv_gradient(ScalarType type, const Strided* parts, const void* cosine,
                                       const void* sine, void* qkv_bar, const QkvShape& shape,
                                       cudaStream_t stream) {
  const int64_t pairs = shape.batch * shape.length * 3 * shape.heads * (shape.head_dim / 2);
  if (pairs == 0) return cudaSuccess;
  return dispatch(type, [&](auto* tag) {
    using S = std::remove_pointer_t<decltype(tag)>;
    using A = AccumulateOf<S>;
    const auto run = [&](auto vector) {
      constexpr int kCount = decltype(vector)::value;
      gather_kernel<S, kCount><<<blocks_of(pairs / kCount), kThreads, 0, stream>>>(
          parts[0], parts[1], parts[2], static_cast<const A*>(cosine), static_cast<const A*>(sine),
          static_cast<S*>(qkv_bar), shape, pairs / kCount);
    };
    const bool aligned =
        std::all_of(parts, parts + 3, [](const Strided& s) { return is_aligned(s, kVector<S>); });
    if (aligned && shape.head_dim / 2 % kVector<S> == 0) {
      run(std::integral_constant<int, kVector<S>>());
    } else {
      run(std::integral_constant<int, 1>());
    }
  });
}

}  // namespace fwl::cuda
