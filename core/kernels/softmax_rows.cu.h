// Launchers of softmax_rows.cu: raw pointers, no LibTorch. One thread block a row; `scalar` is float, double
// or
// __nv_bfloat16, sums and weights are `accumulate` (float, or double for double).
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

namespace fwl::cuda {

enum class RowType { kFloat, kDouble, kBFloat16 };

// Shapes and meaning: softmax_rows.h. Enqueues on `stream`; returns the launch's error.
cudaError_t launch_cross_entropy_gradient(RowType type, void* logits_nv, const int64_t* label_n,
                                          const void* weight_n, void* nll_n, int64_t rows, int64_t vocabulary,
                                          cudaStream_t stream);
cudaError_t launch_cross_entropy_gradient_backward(RowType type, void* logits_nv, void* error_bar_nv,
                                                   const int64_t* label_n, const void* weight_n,
                                                   const void* nll_bar_n, int64_t rows, int64_t vocabulary,
                                                   cudaStream_t stream);

}  // namespace fwl::cuda
