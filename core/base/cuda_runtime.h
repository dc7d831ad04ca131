// What device.h needs of CUDA: cuda_runtime_cuda.cpp in a build with CUDA, no_cuda_runtime.cpp otherwise.
#pragma once

#include <cstdint>
#include <string>

namespace fwl::cuda {

// GPUs that can be used; loads LibTorch's CUDA library at the first call on a machine with a driver.
int device_count();
// Why device_count() is 0, as the end of a sentence.
std::string why_unavailable();
std::string device_name(int index);
std::string device_bus(int index);  // PCI address
int compute_capability(int index);  // 89 for 8.9
void set_device(int index);
void synchronize(int index);
int64_t peak_memory_bytes(int index);
void reset_peak_memory(int index);

}  // namespace fwl::cuda
