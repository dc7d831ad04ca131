// CUDA forms of activation.h; in a build without CUDA they throw ConfigError (no_cuda_kernels.cpp).
#pragma once

#include "core/kernels/activation.h"

namespace fwl::cuda {

Tensor activate(Activation kind, const Tensor& u);
// `wants_act`: also phi(u).
ActivationBackward activate_backward(Activation kind, const Tensor& u, const Tensor& act_bar, bool wants_act);
Tensor squared_relu_backward(const Tensor& act, const Tensor& act_bar);

}  // namespace fwl::cuda
