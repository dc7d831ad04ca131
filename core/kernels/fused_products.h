// The feed-forward's products that have the squared ReLU beside them, with it in their epilogue: a pass over
// the widest tensors less, forward and backward. fused_products_cudnn.cpp; in a build without
// CUDA or without cuDNN's frontend headers no_cudnn.cpp, where has_fused_products() is false.
//
// Shape suffixes: n tokens, d width, f hidden width.
#pragma once

#include "core/base/torch.h"

namespace fwl {

// Whether the two below can compute this for tokens x [n, d] and a weight of d and f in either order: a shape
// that refusal_of_fused_products() (fused_shapes.h) takes, on a GPU that cuDNN serves. Where gradients are
// recorded, both, and n is a multiple of 1,024; elsewhere the rows behind the last such multiple are computed
// apart, so that texts of all lengths do not make a plan each. A function of shapes and machine: the same run
// takes the same kernels.
bool has_fused_products(const Tensor& x_nd, const Tensor& weight);

// relu(x up^T)^2, [n, f], rounded once (rows apart: u is rounded too). Without gradient of its own. Throw
// InternalError where has_fused_products() is false.
Tensor squared_relu_product(const Tensor& x_nd, const Tensor& up_fd);
// 2 sqrt(act) (y_bar down), [n, f]: the cotangent of u where act = relu(u)^2 and y = act down^T.
Tensor squared_relu_product_backward(const Tensor& y_bar_nd, const Tensor& down_df, const Tensor& act_nf);

}  // namespace fwl
