// CUDA form of adamw_update.h; in a build without CUDA it throws ConfigError (no_cuda_kernels.cpp).
#pragma once

#include "core/kernels/adamw_update.h"

namespace fwl::cuda {

void adamw_update_(Tensor& value, const Tensor& gradient, Tensor& first, Tensor& second, const Tensor& copy,
                   const AdamWProgress& progress, const AdamWRates& rates);

}  // namespace fwl::cuda
