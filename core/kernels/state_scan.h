// The scan of linear attention over the states of its chunks: one state after the other,
//   after_g = carry_g before_g + added_g,   before_{g+1} = after_g,   before_0 = 0
// CUDA kernel: state_scan.cu (every element is read once and written once); elsewhere ATen operations.
//
// Shape suffixes: b batch, g chunk, v value dim, k key dim.
#pragma once

#include "core/base/torch.h"

namespace fwl {

enum class ScanOrder {
  kForward,   // states: chunk 0 is the first
  kBackward,  // their cotangents: the last chunk is the first
};

struct StateScan {
  Tensor before_bgvk;  // what each chunk finds
  Tensor end_bvk;      // after the chunk that comes last in the order, type of `added`
};

// added_bgvk: accumulation type, contiguous. carry_bg11: the same type; b and g may be 1. `type`: of
// before_bgvk, one whose accumulation type is that of `added`. Sums are taken in the accumulation type. No
// gradient.
StateScan scan_states(const Tensor& added_bgvk, const Tensor& carry_bg11, at::ScalarType type,
                      ScanOrder order);

}  // namespace fwl
