#include "core/kernels/activation_cuda.h"

#include "core/kernels/activation.cu.h"
#include "core/kernels/launch_cuda.h"

namespace fwl::cuda {

Tensor activate(Activation kind, const Tensor& any_u) {
  const Tensor u = any_u.contiguous();
  Tensor act = at::empty_like(u);
  check_launch(launch_activate(scalar_type_of(u), kind == Activation::kGelu, u.const_data_ptr(),
                               act.data_ptr(), u.numel(), c10::cuda::getCurrentCUDAStream()),
               "activation");
  return act;
}

ActivationBackward activate_backward(Activation kind, const Tensor& any_u, const Tensor& any_bar,
                                     bool wants_act) {
  const Tensor u = any_u.contiguous(), bar = any_bar.contiguous();
  ActivationBackward b{wants_act ? at::empty_like(u) : Tensor(), at::empty_like(u)};
  check_launch(launch_activate_backward(scalar_type_of(u), kind == Activation::kGelu, u.const_data_ptr(),
                                        bar.const_data_ptr(), pointer_or_null(b.act), b.u_bar.data_ptr(),
                                        u.numel(), c10::cuda::getCurrentCUDAStream()),
               "activation_backward");
  return b;
}

Tensor squared_relu_backward(const Tensor& any_act, const Tensor& any_bar) {
  const Tensor act = any_act.contiguous(), bar = any_bar.contiguous();
  Tensor u_bar = at::empty_like(act);
  check_launch(launch_squared_relu_backward(scalar_type_of(act), act.const_data_ptr(), bar.const_data_ptr(),
                                            u_bar.data_ptr(), act.numel(), c10::cuda::getCurrentCUDAStream()),
               "squared_relu_backward");
  return u_bar;
}

}  // namespace fwl::cuda
