// The part of LibTorch that this project uses, and its precompiled header. <torch/torch.h> would add the
// data loaders, optimizers and modules of the C++ frontend (28 s a file instead of 8).
#pragma once

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/generated/variable_factories.h>
#include <torch/csrc/autograd/grad_mode.h>

#include <cstdint>
#include <string>
#include <vector>

namespace fwl {
using at::Tensor;
}  // namespace fwl
