// CUDA forms of step_rows.h; in a build without CUDA they throw ConfigError (no_cuda_kernels.cpp). All
// tensors are contiguous; scales and their gradient are of the accumulation type.
#pragma once

#include "core/base/torch.h"

namespace fwl::cuda {

Tensor step_rows(const Tensor& x, const Tensor& r, const Tensor& scale_k);
struct StepRowsBackward {
  Tensor r_bar, scale_bar_k;
};
// For the cotangent of y, which is x's too. The same bits every time.
StepRowsBackward step_rows_backward(const Tensor& y_bar, const Tensor& r, const Tensor& scale_k);

}  // namespace fwl::cuda
