// What the project's autograd functions share.
#pragma once

#include <optional>

#include "core/base/torch.h"

namespace fwl {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Tensors that may be undefined go through autograd::Function as optionals.
inline std::optional<Tensor> optional_of(const Tensor& t) {
  return t.defined() ? std::optional<Tensor>(t) : std::nullopt;
}

}  // namespace fwl
