// One update of AdamW (Loshchilov and Hutter 2019) on flat tensors, in one pass: with g = gradient / inverse,
//   value  <- value (1 - rate weight_decay)
//   first  <- beta1 first + (1 - beta1) g,       second <- beta2 second + (1 - beta2) g^2
//   value  <- value - rate first / (1 - beta1^n) / (sqrt(second / (1 - beta2^n)) + epsilon),
// and a copy of the values in another type. CUDA kernel: adamw_update.cu; elsewhere ATen's fused operation.
#pragma once

#include "core/base/torch.h"

namespace fwl {

struct AdamWRates {
  double rate, beta1, beta2, epsilon, weight_decay;
};

// Where it is in training, on the device, so that nobody waits for it. All [], float32.
struct AdamWProgress {
  Tensor updates;  // n, this update counted
  Tensor inverse;  // gradients are divided by it
  Tensor skip;     // 1: everything stays as it is
};

// value, gradient, first, second: flat, contiguous, of one length, float32 or float64. copy: bfloat16 of that
// length, or undefined. The gradient may be changed.
void adamw_update_(Tensor& value, Tensor& gradient, Tensor& first, Tensor& second, const Tensor& copy,
                   const AdamWProgress& progress, const AdamWRates& rates);

}  // namespace fwl
