// Causal self-attention with rotary positions, full or over a sliding window.
// Shape suffixes: b batch, h head, t position, e head dim, d width.
#pragma once

#include "core/kernels/fused_shapes.h"
#include "core/kernels/rotary.h"

namespace fwl {

// Keys and values of earlier positions of one attention layer (rotated keys). Without gradient.
struct AttentionMemory {
  Tensor key_bhte, value_bhte;  // undefined: nothing seen yet
};

// softmax(q k^T / sqrt(E)) v over positions j <= i, and i - j < window when window > 0. The queries are those
// of the LAST positions of the keys: q [B, H, T, E], k and v [B, H, T', E] with T' >= T.
Tensor causal_attention(const Tensor& q_bhte, const Tensor& k_bhte, const Tensor& v_bhte, int64_t window);

// What causal_attention() runs where cuDNN's kernels do not take a shape.
enum class AttentionKernel {
  kSquare,    // LibTorch's choice, causal without a mask in memory
  kFlash,     // FlashAttention
  kMasked,    // a mask in memory
  kInBlocks,  // masks of blocks of the window's length
};
// `window` as causal_attention() takes it.
AttentionKernel attention_kernel(const FusedAttentionShape& shape, int64_t window);

// What a packed window's positions may look at: j <= i in the same document, and i - j < window when window >
// 0. Additive, [B, 1, T, T], 0 or -infinity, in the type and on the device of `options`. A document begins
// where document_start_bt (bool, [B, T]) is set; what stands before the first start is one document.
Tensor document_mask(const Tensor& document_start_bt, int64_t window, const at::TensorOptions& options);
// Attention over whole windows under such a mask.
Tensor masked_attention(const Tensor& q_bhte, const Tensor& k_bhte, const Tensor& v_bhte,
                        const Tensor& mask_b1tt);

}  // namespace fwl
