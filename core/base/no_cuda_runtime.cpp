// Stands in for cuda_runtime_cuda.cpp in a build without CUDA.
#include "core/base/cuda_runtime.h"
#include "core/base/error.h"

namespace fwl::cuda {

int device_count() {
  return 0;
}
std::string why_unavailable() {
  return "this build has no CUDA (FWL_CUDA was OFF, or no CUDA toolkit was found)";
}
std::string device_name(int) {
  throw InternalError("a GPU's name was asked for in a build without CUDA");
}
std::string device_bus(int) {
  throw InternalError("a GPU's address was asked for in a build without CUDA");
}
int compute_capability(int) {
  throw InternalError("a GPU's capability was asked for in a build without CUDA");
}
void set_device(int) {
  throw InternalError("a GPU was chosen in a build without CUDA");
}
void synchronize(int) {
  throw InternalError("a GPU was waited for in a build without CUDA");
}
int64_t peak_memory_bytes(int) {
  throw InternalError("GPU memory was asked for in a build without CUDA");
}
void reset_peak_memory(int) {
  throw InternalError("GPU memory was reset in a build without CUDA");
}

}  // namespace fwl::cuda
