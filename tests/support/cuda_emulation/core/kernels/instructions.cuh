// The instructions of core/kernels/instructions.cuh, on the CPU.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace fwl::emulated {

inline float exp2_fast(float x) {
  return std::exp2(x);
}

inline float float_of_bits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
inline uint32_t larger_of_pairs(uint32_t a, uint32_t b) {
  const uint32_t low = float_of_bits(a << 16) < float_of_bits(b << 16) ? b : a;
  const uint32_t high = float_of_bits(a & 0xffff0000u) < float_of_bits(b & 0xffff0000u) ? b : a;
  return (high & 0xffff0000u) | (low & 0xffffu);
}

template <typename Value>
void store_whole(void* to, const Value& value) {
  std::memcpy(to, &value, sizeof value);
}

// At once: what is asked for before its place has been read is found.
inline void copy_async_16(void* shared, const void* global) {
  std::memcpy(shared, global, 16);
}
inline void commit_copies() {}
template <int kLeft>
void wait_for_copies() {}
inline void wait_for_all_copies() {}

}  // namespace fwl::emulated
