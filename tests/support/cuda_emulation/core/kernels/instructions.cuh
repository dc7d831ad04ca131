// The instructions of core/kernels/instructions.cuh, on the CPU.
#pragma once

#include <cmath>

namespace fwl::emulated {

inline float exp2_fast(float x) {
  return std::exp2(x);
}

}  // namespace fwl::emulated
