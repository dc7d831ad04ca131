// Activations of the feed-forward blocks with their gradients, each in one pass. CUDA kernels: activation.cu;
// elsewhere ATen operations. Computed in float32 (float64 for float64).
#pragma once

#include "core/base/torch.h"

namespace fwl {

enum class Activation {
  kSquaredRelu,  // relu(u)^2
  kGelu          // u / 2 (1 + tanh(sqrt(2 / pi) (u + 0.044715 u^3)))
};

// phi(u), any shape.
Tensor activate(Activation kind, const Tensor& u);
// phi(u) again and phi'(u) * act_bar: what a backward pass that did not keep phi(u) needs.
struct ActivationBackward {
  Tensor act, u_bar;
};
ActivationBackward activate_backward(Activation kind, const Tensor& u, const Tensor& act_bar);
// phi'(u) * act_bar of the squared ReLU from its value: phi' = 2 sqrt(phi). A pass less for who keeps phi(u).
Tensor squared_relu_backward(const Tensor& act, const Tensor& act_bar);

// phi(u), differentiable; keeps u alone.
Tensor activation(Activation kind, const Tensor& u);
// phi'(u) * bar of the squared ReLU, differentiable in both (phi'' = 2 where u > 0).
Tensor squared_relu_gradient(const Tensor& u, const Tensor& bar);

}  // namespace fwl
