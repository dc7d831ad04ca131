// What the project's autograd functions share.
#pragma once

#include <torch/csrc/autograd/custom_function.h>

#include <optional>

#include "core/base/torch.h"

namespace fwl {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Tensors that may be undefined go through autograd::Function as optionals.
inline std::optional<Tensor> optional_of(const Tensor& t) {
  return t.defined() ? std::optional<Tensor>(t) : std::nullopt;
}

// The 1 that an objective's backward begins with, a scalar on `like`'s device and of its type: the same
// tensor for every caller, so that a function whose cotangent it is knows without asking the device that it
// has nothing to multiply.
Tensor unit_cotangent(const Tensor& like);
bool is_unit_cotangent(const Tensor& cotangent);

}  // namespace fwl
