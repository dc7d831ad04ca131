// Launchers of likely_hessian.cu: raw pointers, no LibTorch.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "core/kernels/scalar_type.cu.h"

namespace fwl::cuda {

// Shapes and meaning: likely_hessian.h. All contiguous; rows of width d begin at multiples of 16 bytes.
struct LikelyHessianArguments {
  const int32_t* token_nk;
  const void* probability_nk;
  const void *x_nd, *u_nd, *q_nd;
  const int64_t* label_n;
  const void *weight_n, *nll_bar_n, *unembedding_vd;
  void *x_bar_nd, *factor_nd, *h_nk, *weight_bar_n;
  int64_t rows, width, places;
};
// One thread block a row. Enqueues on `stream`; returns the launch's error.
cudaError_t launch_likely_hessian(ScalarType type, const LikelyHessianArguments& arguments,
                                  cudaStream_t stream);

}  // namespace fwl::cuda
