// From the data pipeline's plain arrays to tensors on the model's device.
#pragma once

#include "core/model/language_model.h"
#include "data/loader.h"

namespace fwl {

// Labels that the loader left out have weight 0, all others 1. `accumulation` is the model's accumulation
// type.
TokenBatch to_device(const Batch& batch, at::Device device, at::ScalarType accumulation);

// The two halves of it: tensors on the CPU, in pinned memory when they will go to a GPU; and the copy, which
// then does not wait. The first may run on another thread than the second.
enum class HostMemory { kPageable, kPinned };
TokenBatch to_host(const Batch& batch, at::ScalarType accumulation, HostMemory memory);
TokenBatch send(const TokenBatch& host, at::Device device);

}  // namespace fwl
