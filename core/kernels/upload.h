// Short lists of the host's on a device.
#pragma once

#include "core/base/torch.h"

namespace fwl {

// To a GPU from pinned memory: the host queues the copy and goes on; pageable memory would make it wait.
template <typename T>
Tensor uploaded(const std::vector<T>& values, at::Device device) {
  const auto options = at::TensorOptions().dtype(c10::CppTypeToScalarType<T>::value);
  if (!device.is_cuda()) return at::tensor(values, options).to(device);
  return at::tensor(values, options.pinned_memory(true)).to(device, /*non_blocking=*/true);
}

}  // namespace fwl
