// What the kernels share: 16-byte vectors, accumulation types, reductions in a warp; and their launchers:
// types, vector lengths, shared memory. For .cu files alone.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime_api.h>

#include <cstdint>
#include <type_traits>

#include "core/kernels/instructions.cuh"
#include "core/kernels/scalar_type.cu.h"

namespace fwl::cuda {

template <typename Scalar>
using AccumulateOf = std::conditional_t<std::is_same_v<Scalar, double>, double, float>;

template <typename Scalar, int kCount>
struct alignas(sizeof(Scalar) * kCount) Vector {
  Scalar at[kCount];
};
// Elements in 16 bytes.
template <typename Scalar>
constexpr int kVector = 16 / static_cast<int>(sizeof(Scalar));

template <typename Scalar>
__device__ AccumulateOf<Scalar> widen(Scalar x) {
  if constexpr (std::is_same_v<Scalar, __nv_bfloat16>) {
    return __bfloat162float(x);
  } else {
    return x;
  }
}
template <typename Scalar>
__device__ Scalar narrow(AccumulateOf<Scalar> x) {
  if constexpr (std::is_same_v<Scalar, __nv_bfloat16>) {
    return __float2bfloat16(x);
  } else {
    return x;
  }
}

// Whether vectors of 16 bytes begin at all of them: a tensor may be a part of another one. Null ones do.
template <typename... Pointers>
bool on_vectors(const Pointers*... pointers) {
  return ((reinterpret_cast<uintptr_t>(pointers) % 16 == 0) && ...);
}

template <int kCount, typename Scalar>
__device__ Vector<Scalar, kCount> load_vector(const Scalar* from) {
  return *reinterpret_cast<const Vector<Scalar, kCount>*>(from);
}
template <int kCount, typename Scalar>
__device__ void store_vector(Scalar* to, const Vector<Scalar, kCount>& value) {
  *reinterpret_cast<Vector<Scalar, kCount>*>(to) = value;
}

// The same by one store whatever the compiler makes of the vector.
template <int kCount, typename Scalar>
__device__ void store_vector_whole(Scalar* to, const Vector<Scalar, kCount>& value) {
  if constexpr (sizeof(value) == 8 || sizeof(value) == 16) {
    store_whole(to, value);
  } else {
    store_vector(to, value);
  }
}

template <typename A>
__device__ A warp_sum(A value) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(0xffffffffu, value, offset);
  return value;
}

__device__ inline float exponential(float x) {
  return __expf(x);
}
__device__ inline double exponential(double x) {
  return exp(x);
}
__device__ inline float logarithm(float x) {
  return logf(x);
}
__device__ inline double logarithm(double x) {
  return log(x);
}

// Calls `launch` with a null pointer of the scalar type, which carries the type.
template <typename Launch>
cudaError_t dispatch(ScalarType type, Launch launch) {
  switch (type) {
    case ScalarType::kFloat:
      launch(static_cast<float*>(nullptr));
      break;
    case ScalarType::kDouble:
      launch(static_cast<double*>(nullptr));
      break;
    case ScalarType::kBFloat16:
      launch(static_cast<__nv_bfloat16*>(nullptr));
      break;
  }
  return cudaGetLastError();
}

// Vectors of 16 bytes where rows of `width` elements are whole vectors, else single elements: `launch` gets a
// constant for the length.
template <typename Scalar, typename Launch>
void choose_columns(int64_t width, bool aligned, Launch launch) {
  constexpr int kWide = kVector<Scalar>;
  if (width % kWide == 0 && aligned) {
    launch(std::integral_constant<int, kWide>());
  } else {
    launch(std::integral_constant<int, 1>());
  }
}

// Dynamic shared memory of a kernel, whose static part is at most 16 KiB; before its launch.
template <typename Kernel>
void allow_shared(Kernel kernel, size_t bytes) {
  if (bytes > (32 << 10))
    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
}

}  // namespace fwl::cuda
