// Launcher of likely_gradient.cu: raw pointers, no LibTorch. One thread block a row of logits.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "core/kernels/scalar_type.cu.h"

namespace fwl::cuda {

// Shapes and meaning: likely_gradient.h. All contiguous; the unembedding begins at a multiple of 16 bytes.
struct LikelyGradientArguments {
  const void* logits_nv;
  const int64_t* label_n;
  const void* weight_n;  // of the gradient; null: 1
  const void* unembedding_vd;
  const void* rest_row_d;
  void* nll_n;
  void* gradient_nd;
  int32_t* kept_n;
  void* rest_n;
  int64_t rows, vocabulary, width;
  double log_threshold;
};

// Enqueues on `stream`; returns the launch's error.
cudaError_t launch_likely_gradient(ScalarType type, const LikelyGradientArguments& arguments,
                                   cudaStream_t stream);

}  // namespace fwl::cuda
