// CUDA form of state_scan.h; in a build without CUDA it throws ConfigError (no_cuda_kernels.cpp).
#pragma once

#include "core/kernels/state_scan.h"

namespace fwl::cuda {

StateScan scan_states(const Tensor& added_bgvk, const Tensor& carry_bg11, at::ScalarType type,
                      ScanOrder order);

}  // namespace fwl::cuda
