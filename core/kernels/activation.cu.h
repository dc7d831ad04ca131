// Launchers of activation.cu: raw pointers, no LibTorch; meaning: activation.h.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "core/kernels/scalar_type.cu.h"

namespace fwl::cuda {

cudaError_t launch_activate(ScalarType type, bool gelu, const void* u, void* act, int64_t count,
                            cudaStream_t stream);
// `act` may be null.
cudaError_t launch_activate_backward(ScalarType type, bool gelu, const void* u, const void* act_bar,
                                     void* act, void* u_bar, int64_t count, cudaStream_t stream);
cudaError_t launch_squared_relu_backward(ScalarType type, const void* act, const void* act_bar, void* u_bar,
                                         int64_t count, cudaStream_t stream);

}  // namespace fwl::cuda
