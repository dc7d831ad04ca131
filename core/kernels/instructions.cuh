// Instructions that CUDA C++ has no name for. tests/support/cuda_emulation has its own.
#pragma once

namespace fwl::cuda {

// 2^x in one instruction; relative error 2^-22, denormals are zero.
__device__ inline float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace fwl::cuda
