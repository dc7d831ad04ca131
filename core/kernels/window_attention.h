// Causal attention to a sliding window by cuDNN's fused kernels, which on Hopper and later take about half the
// time of FlashAttention 2's (DESIGN 108). Plans are made once a shape. window_attention_cudnn.cpp; in a build
// without CUDA or without cuDNN's frontend headers no_window_attention.cpp, where has_window_attention() is
// false.
#pragma once

#include "core/base/torch.h"

namespace fwl {

// Whether windowed_attention() can compute this: bfloat16 on a GPU that cuDNN serves, as many queries as keys,
// positions a multiple of 128. A function of the shape and of the machine: the same run takes the same kernels.
bool has_windowed_attention(const Tensor& q_bhte, const Tensor& k_bhte, const Tensor& v_bhte,
                            int64_t window);
// softmax(q k^T / sqrt(e)) v of the `window` > 0 keys up to each query's own, [B, H, T, E], laid out as
// [B, T, H, E]. Inputs in any strides with contiguous elements. Differentiable; deterministic when LibTorch's
// algorithms are to be. Throws InternalError where has_windowed_attention() is false.
Tensor windowed_attention(const Tensor& q_bhte, const Tensor& k_bhte, const Tensor& v_bhte, int64_t window);

}  // namespace fwl
