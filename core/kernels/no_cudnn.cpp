// Stands in for the *_cudnn.cpp files in a build without CUDA or without cuDNN's frontend headers.
#include "core/base/error.h"
#include "core/kernels/fused_attention.h"
#include "core/kernels/fused_products.h"

namespace fwl {

bool has_cudnn() {
  return false;
}

bool has_fused_attention(const Tensor&, const Tensor&, const Tensor&, int64_t) {
  return false;
}

Tensor fused_attention(const Tensor&, const Tensor&, const Tensor&, int64_t) {
  throw InternalError("fused attention reached a build without cuDNN");
}

bool has_fused_products(const Tensor&, const Tensor&) {
  return false;
}

Tensor squared_relu_product(const Tensor&, const Tensor&) {
  throw InternalError("a fused product reached a build without cuDNN");
}

Tensor squared_relu_product_backward(const Tensor&, const Tensor&, const Tensor&) {
  throw InternalError("a fused product reached a build without cuDNN");
}

}  // namespace fwl
