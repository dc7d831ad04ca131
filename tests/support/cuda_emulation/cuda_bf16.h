// bfloat16 of the emulation: rounds to nearest, ties to even, as the GPU does.
#pragma once

#include <cstdint>
#include <cstring>

#include "cuda_runtime_api.h"

struct __nv_bfloat16 {
  uint16_t bits;
};

inline float __bfloat162float(__nv_bfloat16 x) {
  const uint32_t wide = static_cast<uint32_t>(x.bits) << 16;
  float value;
  std::memcpy(&value, &wide, sizeof value);
  return value;
}
inline __nv_bfloat16 __float2bfloat16(float x) {
  uint32_t wide;
  std::memcpy(&wide, &x, sizeof wide);
  if (x != x) return {0x7fff};
  wide += 0x7fff + (wide >> 16 & 1);
  return {static_cast<uint16_t>(wide >> 16)};
}
