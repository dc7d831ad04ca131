// Launcher of state_scan.cu: raw pointers, no LibTorch; meaning: state_scan.h.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "core/kernels/scalar_type.cu.h"

namespace fwl::cuda {

// `type`: of `before` [batch, chunks, size]; `added`, of the same shape, `carry` [batch, chunks] and `end`
// [batch, size] have its accumulation type.
cudaError_t launch_state_scan(ScalarType type, const void* added, const void* carry, void* before, void* end,
                              int64_t batch, int64_t chunks, int64_t size, bool backward,
                              cudaStream_t stream);

}  // namespace fwl::cuda
