// The device of this rank. LibTorch's CUDA library is loaded here, at run time, when the build has CUDA and
// the machine has a GPU: one binary serves both, and CPU runs do not pay for loading it.
#pragma once

#include <string>

#include "core/base/torch.h"

namespace fwl {

// `device` is auto, cpu or cuda; `local_rank` picks one of the GPUs that this process sees: GPU 0 when it
// sees one. auto means cuda when one can be used. Throws ConfigError when cuda is asked for and cannot be
// had, saying what is missing. Call it before other LibTorch work: what LibTorch has once looked up without
// CUDA stays without it.
at::Device choose_device(const std::string& device, int local_rank);
// Makes `device` this thread's. A thread begins with GPU 0, and the first call into CUDA would make a context
// of some hundred MB there. Nothing for the CPU.
void use_device(at::Device device);
// GPUs that this process can use; 0 in a build without CUDA or on a machine without a driver.
int cuda_device_count();
// Name and PCI address ("0000:3b:00.0") of a GPU that cuda_device_count() counts.
struct GpuName {
  std::string name, bus;
};
GpuName gpu_name(int index);
// Whether this GPU has matrix products of 8-bit floats.
bool gpu_multiplies_float8(at::Device gpu);
// Waits until all work enqueued on `device` is done.
void synchronize(at::Device device);
// From now on the same computation gives the same bits on the same device: operations that sum in no fixed
// order are replaced or throw. Call it before other LibTorch work (cuBLAS reads its workspace setting once).
void make_deterministic();
// Peak memory in bytes since the last reset: of LibTorch's allocator on a GPU, resident set of the process on
// a CPU.
int64_t peak_memory_bytes(at::Device device);
void reset_peak_memory(at::Device device);

// fp64, fp32, bf16 -> at::ScalarType. Throws ConfigError.
at::ScalarType parse_dtype(const std::string& dtype);

}  // namespace fwl
