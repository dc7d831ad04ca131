// Instructions that CUDA C++ has no name for. tests/support/cuda_emulation has its own.
#pragma once

#include <cstdint>

namespace fwl::cuda {

// 2^x in one instruction; relative error 2^-22, denormals are zero.
__device__ inline float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// The larger of each of two bfloat16s that lie in 32 bits.
__device__ inline uint32_t larger_of_pairs(uint32_t a, uint32_t b) {
  uint32_t larger;
  asm("max.bf16x2 %0, %1, %2;" : "=r"(larger) : "r"(a), "r"(b));
  return larger;
}
__device__ inline float float_of_bits(uint32_t bits) {
  return __uint_as_float(bits);
}

}  // namespace fwl::cuda
