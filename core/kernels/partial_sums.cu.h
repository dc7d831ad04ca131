// Launcher of partial_sums.cu: the last step of sums over rows of which every thread block has made a part.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "core/kernels/scalar_type.cu.h"

namespace fwl::cuda {

// sums [count, width] of type `type` from partial sums [count, partials, width] in the accumulation type,
// added up in a fixed order. Enqueues on `stream`; returns the launch's error.
cudaError_t launch_sum_partials(ScalarType type, const void* partial, void* sums, int64_t count,
                                int64_t partials, int64_t width, cudaStream_t stream);

}  // namespace fwl::cuda
