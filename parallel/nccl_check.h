// The checks of every NCCL and CUDA call: throw CommError with the expression, the place and the library's
// own text. A call on a non-blocking communicator may still be in progress; that is no error.
#pragma once

#include <cuda_runtime_api.h>
#include <nccl.h>

#include "core/base/error.h"

namespace fwl {

inline void check_nccl(ncclResult_t code, ncclComm_t comm, const char* expression, const char* file,
                       int line) {
  if (code == ncclSuccess || code == ncclInProgress) return;
  throw CommError(cat("NCCL failed: ", expression, " at ", file, ":", line, ": ", ncclGetErrorString(code),
                      ": ", ncclGetLastError(comm),
                      " (the GPUs can no longer exchange tensors). Restart the job from its last "
                      "checkpoint; NCCL_DEBUG=INFO tells more."));
}

inline void check_cuda(cudaError_t code, const char* expression, const char* file, int line) {
  if (code == cudaSuccess) return;
  throw CommError(cat("CUDA failed: ", expression, " at ", file, ":", line, ": ", cudaGetErrorString(code),
                      " (this GPU can no longer be used). Restart the job from its last checkpoint."));
}

}  // namespace fwl

// `comm` may be null: then the text is that of this thread's last call.
#define FWL_NCCL(comm, call) ::fwl::check_nccl((call), (comm), #call, __FILE__, __LINE__)
#define FWL_CUDA_CALL(call) ::fwl::check_cuda((call), #call, __FILE__, __LINE__)
