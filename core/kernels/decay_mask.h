// The strictly causal, decayed mask of linear attention within a chunk, applied to blocks of scores in place:
// D_ij = rho^(i-1-j) for j < i in one document, else 0. CUDA kernels: decay_mask.cu (the mask is never in
// memory, nothing above the diagonal is read); elsewhere ATen operations.
#pragma once

#include "core/base/torch.h"

namespace fwl {

struct DecayMask {
  Tensor log_decay;    // scalar, float64
  Tensor document_nc;  // int64: the document of each position of each chunk; undefined: one document
};

// score_nij [n, C, C] <- D * score.
void apply_decay_mask_(Tensor& score_nij, const DecayMask& mask);
// Both at once. With `wants_sum` returns sum over n, i, j of (i-1-j) D a b (scalar, float64): the gradient of
// log_decay where a is the scores and b their cotangents. Terms of a row are summed in the accumulation type.
Tensor apply_decay_mask_to_both_(Tensor& a_nij, Tensor& b_nij, const DecayMask& mask, bool wants_sum);

}  // namespace fwl
