// Launchers of rotary.cu: raw pointers, no LibTorch; meaning: rotary.h.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "core/kernels/scalar_type.cu.h"

namespace fwl::cuda {

// Of qkv [B, T, 3, H, E], contiguous.
struct QkvShape {
  int64_t batch, length, heads, head_dim;
};
// A tensor [B, H, T, E] with stride 1 in E; null: zeros.
struct Strided {
  const void* data;
  int64_t batch_stride, head_stride, position_stride;
};

// In place; `back`: by the opposite angles. cosine, sine: [T, E / 2] in the accumulation type.
cudaError_t launch_rotate_queries_keys(ScalarType type, void* qkv, const void* cosine, const void* sine,
                                       bool back, const QkvShape& shape, cudaStream_t stream);
// qkv_bar <- the three gradients, those of queries and keys rotated back; cosine null: no rotation.
cudaError_t launch_gather_qkv_gradient(ScalarType type, const Strided* parts, const void* cosine,
                                       const void* sine, void* qkv_bar, const QkvShape& shape,
                                       cudaStream_t stream);

}  // namespace fwl::cuda
