// Causal attention, to a sliding window or to all keys, by cuDNN's fused kernels: on Hopper windows take
// about half the time of FlashAttention 2's. Plans are made once a shape.
// fused_attention_cudnn.cpp; in a build without CUDA or without cuDNN's frontend headers
// no_cudnn.cpp, where has_fused_attention() is false.
#pragma once

#include "core/base/torch.h"

namespace fwl {

// Whether this build has them.
bool has_cudnn();

// Whether fused_attention() can compute this: a shape that refusal_of_fused_attention() (fused_shapes.h)
// takes, on a GPU that cuDNN serves. A function of shapes and machine: the same run takes the same kernels.
bool has_fused_attention(const Tensor& q_bhte, const Tensor& k_bhte, const Tensor& v_bhte, int64_t window);
// softmax(q k^T / sqrt(e)) v of the `window` keys (0: all) up to each query's own, the last query's own being
// the last key; [B, H, T, E], laid out as [B, T, H, E]. Inputs in any strides with contiguous elements.
// Differentiable; deterministic when LibTorch's algorithms are to be. Throws InternalError where
// has_fused_attention() is false.
Tensor fused_attention(const Tensor& q_bhte, const Tensor& k_bhte, const Tensor& v_bhte, int64_t window);

}  // namespace fwl
