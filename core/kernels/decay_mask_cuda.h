// CUDA forms of decay_mask.h; in a build without CUDA they throw ConfigError (no_cuda_kernels.cpp).
#pragma once

#include "core/kernels/decay_mask.h"

namespace fwl::cuda {

// `b_nij` undefined: a alone.
Tensor apply_decay_mask_(Tensor& a_nij, Tensor b_nij, const DecayMask& mask, bool wants_sum);

}  // namespace fwl::cuda
