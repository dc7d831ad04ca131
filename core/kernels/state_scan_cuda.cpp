#include "core/kernels/state_scan_cuda.h"

#include "core/kernels/launch_cuda.h"
#include "core/kernels/state_scan.cu.h"

namespace fwl::cuda {

StateScan scan_states(const Tensor& added_bgvk, const Tensor& carry_bg11, at::ScalarType type,
                      ScanOrder order) {
  const int64_t batch = added_bgvk.size(0), chunks = added_bgvk.size(1);
  // One factor a state, in memory.
  const Tensor carry_bg = carry_bg11.flatten(1).expand({batch, chunks}).contiguous();
  StateScan scan{at::empty(added_bgvk.sizes(), added_bgvk.options().dtype(type)),
                 at::empty_like(added_bgvk.select(1, 0), at::MemoryFormat::Contiguous)};
  check_launch(
      launch_state_scan(scalar_type_of(scan.before_bgvk), added_bgvk.const_data_ptr(),
                        carry_bg.const_data_ptr(), scan.before_bgvk.data_ptr(), scan.end_bvk.data_ptr(),
                        batch, chunks, added_bgvk.size(2) * added_bgvk.size(3), order == ScanOrder::kBackward,
                        c10::cuda::getCurrentCUDAStream()),
      "state_scan");
  return scan;
}

}  // namespace fwl::cuda
