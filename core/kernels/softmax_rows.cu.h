// Launchers of softmax_rows.cu: raw pointers, no LibTorch. One thread block a row.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "core/kernels/scalar_type.cu.h"

namespace fwl::cuda {

// Shapes and meaning: softmax_rows.h. Enqueues on `stream`; returns the launch's error.
// Lists of likely tokens (likely_tokens.h); none are made where there is no `token_nk`.
struct LikelyTokensArguments {
  int32_t* token_nk;
  void* probability_nk;
  int64_t places;
  double log_threshold;
};
// `weight_n`: null for weights of 1.
cudaError_t launch_cross_entropy_gradient(ScalarType type, void* logits_nv, const int64_t* label_n,
                                          const void* weight_n, void* nll_n,
                                          const LikelyTokensArguments& likely, int64_t rows,
                                          int64_t vocabulary, cudaStream_t stream);
cudaError_t launch_cross_entropy(ScalarType type, const void* logits_nv, const int64_t* label_n, void* nll_n,
                                 int64_t rows, int64_t vocabulary, cudaStream_t stream);
cudaError_t launch_cross_entropy_gradient_backward(ScalarType type, void* logits_nv, void* error_bar_nv,
                                                   const int64_t* label_n, const void* weight_n,
                                                   const void* nll_n, const void* nll_bar_n, int64_t rows,
                                                   int64_t vocabulary, cudaStream_t stream);

cudaError_t launch_cross_entropy_residual_backward(ScalarType type, const void* residual_nv,
                                                   void* error_bar_nv, const int64_t* label_n,
                                                   const void* weight_n, const void* nll_bar_n, int64_t rows,
                                                   int64_t vocabulary, cudaStream_t stream);

}  // namespace fwl::cuda
