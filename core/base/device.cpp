#include "core/base/device.h"

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "core/base/cuda_runtime.h"
#include "core/base/error.h"

namespace fwl {
namespace {

// Peak resident set of this process ("VmHWM", in kB).
int64_t peak_resident_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("VmHWM:", 0) != 0) continue;
    std::istringstream value(line.substr(6));
    int64_t kilobytes = 0;
    value >> kilobytes;
    return kilobytes * 1024;
  }
  return 0;
}

}  // namespace

at::Device choose_device(const std::string& device, int local_rank) {
  require<ConfigError>(device == "auto" || device == "cpu" || device == "cuda", "device '", device,
                       "' does not exist. Choose auto, cpu or cuda.");
  const int count = device == "cpu" ? 0 : cuda_device_count();
  if (device == "cpu" || (device == "auto" && count == 0)) return at::kCPU;
  require<ConfigError>(count > 0, "device cuda was asked for, but ", cuda::why_unavailable(),
                       ". Choose --device cpu (train.device=cpu), or auto.");
  // Where every rank sees the GPUs of its host, its number picks one; where it sees its own alone (Slurm's
  // --gpus-per-task, --gpu-bind=single), each is one of its own. Two ranks with one GPU are found by its PCI
  // address (parallel/mesh.h).
  const int gpu = local_rank % count;
  cuda::set_device(gpu);
  return at::Device(at::kCUDA, static_cast<c10::DeviceIndex>(gpu));
}

void use_device(at::Device device) {
  if (device.is_cuda()) cuda::set_device(device.index());
}

int cuda_device_count() {
  return cuda::device_count();
}

GpuName gpu_name(int index) {
  return {cuda::device_name(index), cuda::device_bus(index)};
}

bool gpu_multiplies_float8(at::Device gpu) {
  return cuda::compute_capability(gpu.index()) >= 89;
}

void synchronize(at::Device device) {
  if (device.is_cuda()) cuda::synchronize(device.index());
}

void make_deterministic() {
  // Several streams may share a cuBLAS workspace otherwise (cuBLAS documentation, "Results reproducibility").
  setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);
  at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/false);
  at::globalContext().setDeterministicFillUninitializedMemory(false);
  at::globalContext().setDeterministicCuDNN(true);
  at::globalContext().setBenchmarkCuDNN(false);
}

int64_t peak_memory_bytes(at::Device device) {
  return device.is_cuda() ? cuda::peak_memory_bytes(device.index()) : peak_resident_bytes();
}

void reset_peak_memory(at::Device device) {
  if (device.is_cuda()) {
    cuda::reset_peak_memory(device.index());
  } else {
    std::ofstream("/proc/self/clear_refs")
        << "5";  // resets VmHWM; where it is not allowed, the peak is that of the whole run
  }
}

at::ScalarType parse_dtype(const std::string& dtype) {
  if (dtype == "fp64") return at::kDouble;
  if (dtype == "fp32") return at::kFloat;
  require<ConfigError>(dtype == "bf16", "dtype '", dtype, "' does not exist. Choose fp64, fp32 or bf16.");
  return at::kBFloat16;
}

}  // namespace fwl
