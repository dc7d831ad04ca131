// CUDA forms of rotary.h; in a build without CUDA they throw ConfigError (no_cuda_kernels.cpp).
#pragma once

#include "core/kernels/rotary.h"

namespace fwl::cuda {

void rotate_queries_keys_(Tensor& qkv_bt3he, const RotaryTable& table, Turn turn);
Tensor gather_qkv_gradient(const Tensor& q_bar_bhte, const Tensor& k_bar_bhte, const Tensor& v_bar_bhte,
                           const RotaryTable& table, at::IntArrayRef qkv_sizes,
                           const at::TensorOptions& options);

}  // namespace fwl::cuda
