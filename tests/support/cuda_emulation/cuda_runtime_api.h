// What the kernels and their launchers use of the CUDA runtime and of CUDA C++, on the CPU: the threads of a
// block take turns on one thread of the CPU (emulation.h). CMake rewrites launches and dynamic shared memory.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "emulation.h"

using cudaStream_t = void*;
enum cudaError_t { cudaSuccess };
enum cudaDeviceAttr { cudaDevAttrMaxSharedMemoryPerBlockOptin, cudaDevAttrMultiProcessorCount };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };

inline cudaError_t cudaGetLastError() {
  return cudaSuccess;
}
inline const char* cudaGetErrorString(cudaError_t) {
  return "";
}
inline cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  // One multiprocessor: blocks that take rows in turns do so in small tests.
  *value = attribute == cudaDevAttrMultiProcessorCount ? 1 : static_cast<int>(emulation::kSharedBytes);
  return cudaSuccess;
}
template <typename Kernel>
cudaError_t cudaFuncSetAttribute(Kernel, cudaFuncAttribute, int) {
  return cudaSuccess;
}

template <typename Kernel>
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, Kernel, int, size_t) {
  *blocks = 2;
  return cudaSuccess;
}

#define __global__
#define __device__
#define __host__
#define __shared__ static  // one block runs at a time
#define __launch_bounds__(...)
#define threadIdx (::emulation::thread_index)
#define blockIdx (::emulation::block_index)
#define gridDim (::emulation::grid_size)
#define blockDim (::emulation::block_size)

inline void __syncthreads() {
  emulation::wait_for_block();
}
template <typename T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  return emulation::value_of_lane(value, static_cast<int>(threadIdx.x % 32) ^ mask);
}
template <typename T>
T __shfl_up_sync(unsigned, T value, int offset) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  return emulation::value_of_lane(value, lane >= offset ? lane - offset : lane);
}
inline int atomicAdd(int* sum, int value) {
  const int before = *sum;
  *sum += value;
  return before;
}
inline int __ffs(int bits) {
  return __builtin_ffs(bits);
}
inline int __ffsll(long long bits) {
  return __builtin_ffsll(bits);
}
inline int __popc(unsigned bits) {
  return __builtin_popcount(bits);
}
inline float __expf(float x) {
  return std::exp(x);
}
using std::max;
using std::min;
