// Launchers of step_rows.cu: raw pointers, no LibTorch; meaning: step_rows.h. Everything begins at multiples
// of 16 bytes, rows of `width` elements are whole vectors of 16 bytes. The scales are of the accumulation
// type.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "core/kernels/scalar_type.cu.h"

namespace fwl::cuda {

cudaError_t launch_step_rows(ScalarType type, const void* x, const void* r, const void* scale, void* y,
                             int64_t rows, int64_t width, cudaStream_t stream);
// r_bar, and partial sums over rows of the scale's gradient: [partials, width] in the accumulation type, all
// written.
cudaError_t launch_step_rows_backward(ScalarType type, const void* y_bar, const void* r, const void* scale,
                                      void* r_bar, void* partial, int64_t partials, int64_t rows,
                                      int64_t width, cudaStream_t stream);

}  // namespace fwl::cuda
