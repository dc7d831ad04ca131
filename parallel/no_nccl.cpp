#include "core/base/error.h"
#include "parallel/session.h"

namespace fwl {

std::unique_ptr<Communicator> make_world_nccl_communicator(int, double) {
  throw ConfigError(
      "this build has no NCCL (it was configured without a CUDA toolkit, so GPUs cannot exchange gradients). "
      "Rebuild with -DFWL_CUDA=ON, or run with train.device=cpu.");
}

}  // namespace fwl
