#include "core/kernels/state_scan.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/kernels/matmul.h"
#include "core/kernels/state_scan_cuda.h"

namespace fwl {

StateScan scan_states(const Tensor& added_bgvk, const Tensor& carry_bg11, at::ScalarType type,
                      ScanOrder order) {
  require<InternalError>(added_bgvk.dim() == 4 && added_bgvk.is_contiguous() &&
                             added_bgvk.scalar_type() == accumulate_type(type) &&
                             carry_bg11.scalar_type() == added_bgvk.scalar_type(),
                         "scan_states got ", added_bgvk.sizes(), " in ", added_bgvk.scalar_type(), " for ",
                         type);
  if (added_bgvk.is_cuda()) return cuda::scan_states(added_bgvk, carry_bg11, type, order);
  const int64_t chunks = added_bgvk.size(1);
  StateScan scan{at::empty(added_bgvk.sizes(), added_bgvk.options().dtype(type)),
                 at::zeros_like(added_bgvk.select(1, 0))};
  for (int64_t i = 0; i < chunks; ++i) {
    const int64_t g = order == ScanOrder::kForward ? i : chunks - 1 - i;
    const Tensor carry_b11 = carry_bg11.select(1, std::min(g, carry_bg11.size(1) - 1));
    scan.before_bgvk.select(1, g).copy_(scan.end_bvk);
    scan.end_bvk = at::addcmul(added_bgvk.select(1, g), carry_b11, scan.end_bvk);
  }
  return scan;
}

}  // namespace fwl
