// Rows minus scaled rows, y = x - scale r with one scale a column: how a fast layer's output moves by what
// its fast weights have learned. Differentiable in x, r and scale. On a GPU one kernel a direction
// (step_rows.cu), where rows are whole vectors of 16 bytes; else ATen's operations. The difference is taken
// in the accumulation type and rounded once.
//
// Shape suffixes: k column.
#pragma once

#include "core/base/torch.h"

namespace fwl {

// x, r: [..., k] of one type, the result's; scale_k: [k], or [] for all columns, of the accumulation type. x
// may be broadcast.
Tensor step_rows(const Tensor& x, const Tensor& r, const Tensor& scale_k);

}  // namespace fwl
