// Launcher of decay_mask.cu: raw pointers, no LibTorch; meaning: decay_mask.h.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "core/kernels/scalar_type.cu.h"

namespace fwl::cuda {

// `b`, `document` (int64 [chunks, chunk]) and `row_sums` (double [chunks, chunk]) may be null.
cudaError_t launch_decay_mask(ScalarType type, void* a, void* b, const double* log_decay,
                              const int64_t* document, double* row_sums, int64_t chunks, int64_t chunk,
                              cudaStream_t stream);

}  // namespace fwl::cuda
