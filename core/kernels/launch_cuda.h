// Between LibTorch's tensors and the launchers of the .cu files.
#pragma once

#include <c10/cuda/CUDAStream.h>

#include <cstdint>

#include "core/base/error.h"
#include "core/base/torch.h"
#include "core/kernels/scalar_type.cu.h"

namespace fwl::cuda {

// Throws InternalError for types that have no kernels.
inline ScalarType scalar_type_of(const Tensor& t) {
  switch (t.scalar_type()) {
    case at::kFloat:
      return ScalarType::kFloat;
    case at::kDouble:
      return ScalarType::kDouble;
    case at::kBFloat16:
      return ScalarType::kBFloat16;
    default:
      throw InternalError(fwl::cat("no CUDA kernel for ", t.scalar_type()));
  }
}

inline void check_launch(cudaError_t error, const char* kernel) {
  require<InternalError>(error == cudaSuccess, kernel, " did not launch: ", cudaGetErrorString(error));
}

// The same numbers where 16-byte vectors begin: parts of the flat parameters may lie anywhere.
inline Tensor on_vectors(const Tensor& t) {
  return t.defined() && reinterpret_cast<uintptr_t>(t.const_data_ptr()) % 16 != 0 ? t.clone() : t;
}

inline void* pointer_or_null(const Tensor& t) {
  return t.defined() ? t.data_ptr() : nullptr;
}

}  // namespace fwl::cuda
