// The squared ReLU and its gradients on the CPU, float32 and float64, each in one pass: ATen needs two or
// three, each as long as memory takes.
#pragma once

#include "core/kernels/activation.h"

namespace fwl::cpu {

bool has_squared_relu(const Tensor& u);
// relu(u)^2
Tensor squared_relu(const Tensor& u);
// relu(u)^2 and 2 relu(u) bar
ActivationBackward squared_relu_backward(const Tensor& u, const Tensor& bar);
// 2 relu(u) bar
Tensor squared_relu_gradient(const Tensor& u, const Tensor& bar);

}  // namespace fwl::cpu
