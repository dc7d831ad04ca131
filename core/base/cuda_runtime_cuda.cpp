#include "core/base/cuda_runtime.h"

#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>
#include <dlfcn.h>

#include <filesystem>
#include <mutex>

#include "core/base/error.h"
#include "core/base/log.h"

namespace fwl::cuda {
namespace {

std::string unavailable_reason;  // empty: CUDA can be used

// The folder of the libtorch_cpu.so that this process runs with.
std::filesystem::path libtorch_folder() {
  Dl_info info;
  require<InternalError>(dladdr(reinterpret_cast<void*>(&at::_ops::mm::call), &info) != 0,
                         "cannot find the folder of libtorch_cpu.so");
  return std::filesystem::canonical(info.dli_fname).parent_path();
}

// ATen's CUDA kernels register themselves when their library is loaded.
void load_cuda_library() {
  if (dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL) == nullptr) {
    unavailable_reason = "this machine has no NVIDIA driver (libcuda.so.1 was not found)";
    return;
  }
  int devices = 0;
  const cudaError_t counted = c10::cuda::GetDeviceCount(&devices);
  if (counted != cudaSuccess || devices == 0) {
    unavailable_reason = cat("no GPU can be used (the CUDA runtime says: ",
                             counted == cudaSuccess ? "no device" : cudaGetErrorString(counted), ")");
    return;
  }
  const std::string path = (libtorch_folder() / "libtorch_cuda.so").string();
  if (dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL) == nullptr) {
    unavailable_reason = cat("LibTorch's CUDA library did not load (", dlerror(),
                             "; ./launch/setup.sh --cuda installs what it needs)");
    log_warn(cat("this machine has ", devices, " GPU(s), but ", unavailable_reason));
    return;
  }
  // float32 products in full float32: TF32 would break the equality of parallel and serial runs.
  at::globalContext().lazyInitDevice(at::kCUDA);
  at::globalContext().setAllowTF32CuBLAS(false);
}

void load_once() {
  static std::once_flag once;
  std::call_once(once, load_cuda_library);
}

}  // namespace

int device_count() {
  load_once();
  return unavailable_reason.empty() ? static_cast<int>(c10::cuda::device_count()) : 0;
}

std::string why_unavailable() {
  load_once();
  return unavailable_reason;
}

std::string device_name(int index) {
  cudaDeviceProp properties{};
  return cudaGetDeviceProperties(&properties, index) == cudaSuccess ? properties.name : "unknown GPU";
}

std::string device_bus(int index) {
  char bus[32] = {};
  return cudaDeviceGetPCIBusId(bus, sizeof bus, index) == cudaSuccess ? bus : "";
}

int compute_capability(int index) {
  int major = 0, minor = 0;
  const bool known =
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, index) == cudaSuccess &&
      cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, index) == cudaSuccess;
  return known ? 10 * major + minor : 0;
}

void set_device(int index) {
  c10::cuda::set_device(static_cast<c10::DeviceIndex>(index));
}

void synchronize(int index) {
  c10::cuda::set_device(static_cast<c10::DeviceIndex>(index));
  c10::cuda::device_synchronize();
}

int64_t peak_memory_bytes(int index) {
  const auto stats = c10::cuda::CUDACachingAllocator::getDeviceStats(static_cast<c10::DeviceIndex>(index));
  return stats.allocated_bytes[static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE)].peak;
}

void reset_peak_memory(int index) {
  c10::cuda::CUDACachingAllocator::resetPeakStats(static_cast<c10::DeviceIndex>(index));
}

}  // namespace fwl::cuda
