// Launchers of norm.cu and norm_gradient.cu: raw pointers, no LibTorch. Shapes and meaning: norm.h. Enqueue
// on `stream`; return the launch's error. Rows are such as refusal_of_norm() (fused_shapes.h) takes.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "core/kernels/scalar_type.cu.h"

namespace fwl::cuda {

// Rows of the partial sums that the launchers of backward passes are to write: a block's each.
int64_t norm_backward_partials(ScalarType type, int64_t rows, int64_t width);

// `bias` null: RMSNorm. `delta` null: sum is not written. mean (LayerNorm) and inverse_sigma are [rows].
cudaError_t launch_add_norm(ScalarType type, const void* x, const void* delta, const void* scale,
                            const void* bias, double epsilon, void* sum, void* norm, void* mean,
                            void* inverse_sigma, int64_t rows, int64_t width, cudaStream_t stream);
// x_bar = the norm's gradient plus sum_bar (may be null). Partial sums over rows of the gradients of scale
// and bias (null: RMSNorm): [partials, width] in the accumulation type, all rows written.
cudaError_t launch_add_norm_backward(ScalarType type, const void* sum, const void* scale, const void* mean,
                                     const void* inverse_sigma, const void* norm_bar, const void* sum_bar,
                                     void* x_bar, void* scale_partial, void* bias_partial, int64_t partials,
                                     int64_t rows, int64_t width, cudaStream_t stream);
// g = A (scale * q) at o; mean and inverse_sigma are written.
cudaError_t launch_norm_gradient(ScalarType type, const void* o, const void* scale, const void* q,
                                 double epsilon, void* g, void* mean, void* inverse_sigma, int64_t rows,
                                 int64_t width, cudaStream_t stream);
// Cotangents of o and q for the cotangent v of g, and partial sums of scale's.
cudaError_t launch_norm_gradient_backward(ScalarType type, const void* o, const void* scale, const void* q,
                                          const void* mean, const void* inverse_sigma, const void* v,
                                          void* o_bar, void* q_bar, void* scale_partial, int64_t partials,
                                          int64_t rows, int64_t width, cudaStream_t stream);

}  // namespace fwl::cuda
