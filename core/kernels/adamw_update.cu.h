// Launcher of adamw_update.cu: raw pointers, no LibTorch; meaning: adamw_update.h.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "core/kernels/scalar_type.cu.h"

namespace fwl::cuda {

struct AdamWArguments {
  void *value, *first, *second;
  void* copy;  // bfloat16; null: none
  const void* gradient;
  const float *updates, *inverse, *skip;
  int64_t count;
  double rate, beta1, beta2, epsilon, weight_decay;
};
// `type`: of the values, kFloat or kDouble.
cudaError_t launch_adamw_update(ScalarType type, const AdamWArguments& arguments, cudaStream_t stream);

}  // namespace fwl::cuda
