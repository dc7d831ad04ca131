// Matrix products that accumulate in the accumulation type: bfloat16 factors give a float32 product.
#pragma once

#include "core/base/torch.h"

namespace fwl {

// float32 for bfloat16 and float32, float64 for float64.
at::ScalarType accumulate_type(at::ScalarType type);
// a [B, n, k] x b [B, k, m] -> [B, n, m] in accumulate_type(a's).
Tensor batched_product_accumulate(const Tensor& a_bnk, const Tensor& b_bkm);
// a [n, k] x b [k, m] in accumulate_type(a's).
Tensor product_accumulate(const Tensor& a_nk, const Tensor& b_km);
// sum_nm += a [n, k] x b [k, m]; `sum_nm` has accumulate_type(a's).
void add_product_(Tensor& sum_nm, const Tensor& a_nk, const Tensor& b_km);

}  // namespace fwl
