// The part of LibTorch that this project uses, and its precompiled header. g++ completes what a precompiled
// header leaves open in every file again: <torch/torch.h> would cost 20 s a file, custom_function.h 3 s
// (files with autograd functions include core/base/autograd.h).
#pragma once

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/generated/variable_factories.h>
#include <torch/csrc/autograd/grad_mode.h>

#include <cstdint>
#include <string>
#include <vector>

namespace fwl {
using at::Tensor;
}  // namespace fwl
