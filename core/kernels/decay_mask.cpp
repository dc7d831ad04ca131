#include "core/kernels/decay_mask.h"

#include "core/kernels/decay_mask_cuda.h"
#include "core/kernels/matmul.h"

namespace fwl {
namespace {

// Exponents i - 1 - j; negative above the diagonal.
Tensor gaps(int64_t chunk, const at::TensorOptions& options) {
  const Tensor i_c = at::arange(chunk, options);
  return i_c.unsqueeze(1) - 1 - i_c.unsqueeze(0);
}

// [1 or n, C, C], float64.
Tensor weights_of(const DecayMask& mask, int64_t chunk) {
  const Tensor gap_ij = gaps(chunk, mask.log_decay.options());
  const Tensor within_ij = (mask.log_decay * gap_ij.clamp_min(0)).exp() * (gap_ij >= 0);
  if (!mask.document_nc.defined()) return within_ij.unsqueeze(0);
  return within_ij * (mask.document_nc.unsqueeze(2) == mask.document_nc.unsqueeze(1));
}

}  // namespace

void apply_decay_mask_(Tensor& score_nij, const DecayMask& mask) {
  if (score_nij.is_cuda()) {
    cuda::apply_decay_mask_(score_nij, {}, mask, false);
  } else {
    score_nij.mul_(weights_of(mask, score_nij.size(2)).to(score_nij.scalar_type()));
  }
}

Tensor apply_decay_mask_to_both_(Tensor& a_nij, Tensor& b_nij, const DecayMask& mask, bool wants_sum) {
  if (a_nij.is_cuda()) return cuda::apply_decay_mask_(a_nij, b_nij, mask, wants_sum);
  const auto type = a_nij.scalar_type();
  const Tensor weights = weights_of(mask, a_nij.size(2)).to(type);
  b_nij.mul_(weights);
  Tensor sum;
  if (wants_sum) {
    const Tensor gap_ij = gaps(a_nij.size(2), mask.log_decay.options()).clamp_min(0).to(type);
    // Large terms cancel between rows.
    sum = at::sum((a_nij * b_nij).mul_(gap_ij), at::IntArrayRef{-1}, false, accumulate_type(type))
              .to(at::kDouble)
              .sum();
  }
  a_nij.mul_(weights);
  return sum;
}

}  // namespace fwl
