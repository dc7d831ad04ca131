// Stands in for fused_attention_cudnn.cpp in a build without CUDA or without cuDNN's frontend headers.
#include "core/base/error.h"
#include "core/kernels/fused_attention.h"

namespace fwl {

bool has_fused_attention(const Tensor&, const Tensor&, const Tensor&, int64_t) {
  return false;
}

Tensor fused_attention(const Tensor&, const Tensor&, const Tensor&, int64_t) {
  throw InternalError("fused attention reached a build without cuDNN");
}

}  // namespace fwl
