#include "core/base/error.h"
#include "parallel/session.h"
#include "parallel/software.h"

namespace fwl {

std::string nccl_version() {
  return "none";
}

std::unique_ptr<Communicator> make_world_nccl_communicator(int device_index, double timeout_s) {
  return make_axis_nccl_communicator(0, "world", device_index, timeout_s);
}

std::unique_ptr<Communicator> make_axis_nccl_communicator(int, const std::string&, int, double) {
  throw ConfigError(
      "this build has no NCCL (it was configured without a CUDA toolkit, so GPUs cannot exchange tensors). "
      "Rebuild with -DFWL_CUDA=ON, or run with train.device=cpu.");
}

}  // namespace fwl
