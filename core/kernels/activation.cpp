#include "core/kernels/activation.h"

#include "core/base/autograd.h"
#include "core/kernels/activation_cpu.h"
#include "core/kernels/activation_cuda.h"

namespace fwl {
namespace {

Tensor gradient_of(Activation kind, const Tensor& u, const Tensor& act_bar) {
  if (kind == Activation::kGelu) return at::gelu_backward(act_bar, u, "tanh");
  if (cpu::has_squared_relu(u)) return cpu::squared_relu_gradient(u, act_bar);
  return at::relu(u).mul_(2).mul_(act_bar);
}

Tensor u_bar_of(Activation kind, const Tensor& u, const Tensor& act_bar) {
  if (u.is_cuda()) return cuda::activate_backward(kind, u, act_bar, /*wants_act=*/false).u_bar;
  return gradient_of(kind, u, act_bar);
}

class ActivationFunction : public torch::autograd::Function<ActivationFunction> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& u, bool gelu) {
    ctx->saved_data["gelu"] = gelu;
    ctx->save_for_backward({u});
    return activate(gelu ? Activation::kGelu : Activation::kSquaredRelu, u);
  }
  static variable_list backward(AutogradContext* ctx, variable_list bars) {
    const Tensor u = ctx->get_saved_variables()[0];
    const auto kind = ctx->saved_data["gelu"].toBool() ? Activation::kGelu : Activation::kSquaredRelu;
    return {u_bar_of(kind, u, bars[0]), Tensor()};
  }
};

class SquaredReluGradient : public torch::autograd::Function<SquaredReluGradient> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& u, const Tensor& bar) {
    ctx->save_for_backward({u, bar});
    return u_bar_of(Activation::kSquaredRelu, u, bar);
  }
  static variable_list backward(AutogradContext* ctx, variable_list cotangents) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &u = saved[0], &bar = saved[1], &cotangent = cotangents[0];
    return {at::threshold_backward((bar * cotangent).mul_(2), u, 0),
            u_bar_of(Activation::kSquaredRelu, u, cotangent)};
  }
};

}  // namespace

Tensor activate(Activation kind, const Tensor& u) {
  if (u.is_cuda()) return cuda::activate(kind, u);
  if (kind == Activation::kGelu) return at::gelu(u, "tanh");
  return cpu::has_squared_relu(u) ? cpu::squared_relu(u) : at::relu(u).square_();
}

ActivationBackward activate_backward(Activation kind, const Tensor& u, const Tensor& act_bar) {
  if (u.is_cuda()) return cuda::activate_backward(kind, u, act_bar, /*wants_act=*/true);
  if (kind == Activation::kSquaredRelu && cpu::has_squared_relu(u))
    return cpu::squared_relu_backward(u, act_bar);
  return {activate(kind, u), gradient_of(kind, u, act_bar)};
}

Tensor squared_relu_backward(const Tensor& act, const Tensor& act_bar) {
  if (act.is_cuda()) return cuda::squared_relu_backward(act, act_bar);
  return at::sqrt(act).mul_(2).mul_(act_bar);
}

Tensor squared_relu_gradient(const Tensor& u, const Tensor& bar) {
  return SquaredReluGradient::apply(u, bar);
}

Tensor activation(Activation kind, const Tensor& u) {
  return ActivationFunction::apply(u, kind == Activation::kGelu);
}

}  // namespace fwl
