// Stands in for window_attention_cudnn.cpp in a build without CUDA or without cuDNN's frontend headers.
#include "core/base/error.h"
#include "core/kernels/window_attention.h"

namespace fwl {

bool has_windowed_attention(const Tensor&, const Tensor&, const Tensor&, int64_t) {
  return false;
}

Tensor windowed_attention(const Tensor&, const Tensor&, const Tensor&, int64_t) {
  throw InternalError("windowed attention reached a build without cuDNN");
}

}  // namespace fwl
