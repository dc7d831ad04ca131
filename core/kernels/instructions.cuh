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

// Writes 8 or 16 bytes, `to` a multiple of that, by one instruction. The compiler makes stores of single
// elements of an assignment at times.
template <typename Value>
__device__ void store_whole(void* to, const Value& value) {
  static_assert(sizeof(Value) == 8 || sizeof(Value) == 16);
  if constexpr (sizeof(Value) == 16) {
    const uint4 v = __builtin_bit_cast(uint4, value);
    asm volatile("st.v4.b32 [%0], {%1, %2, %3, %4};"
                 :
                 : "l"(to), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w)
                 : "memory");
  } else {
    const uint2 v = __builtin_bit_cast(uint2, value);
    asm volatile("st.v2.b32 [%0], {%1, %2};" : : "l"(to), "r"(v.x), "r"(v.y) : "memory");
  }
}

// 16 bytes into shared memory, both addresses multiples of 16, while the thread goes on, which has used what
// it read there. What it has asked for between two commit_copies() is a group; wait_for_copies<kLeft>()
// returns when all groups but the last kLeft have come. Only the thread itself can read them then.
__device__ inline void copy_async_16(void* shared, const void* global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;"
               :
               : "r"(static_cast<unsigned>(__cvta_generic_to_shared(shared))), "l"(global)
               : "memory");
}
__device__ inline void commit_copies() {
  asm volatile("cp.async.commit_group;");
}
template <int kLeft>
__device__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" : : "n"(kLeft) : "memory");
}
__device__ inline void wait_for_all_copies() {
  asm volatile("cp.async.wait_all;" : : : "memory");
}

}  // namespace fwl::cuda
