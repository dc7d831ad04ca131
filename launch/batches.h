// From the data pipeline's plain arrays to tensors on the model's device.
#pragma once

#include "core/model/language_model.h"
#include "data/loader.h"

namespace fwl {

// Labels that were left out have weight 0, all others 1. `accumulation` is the model's accumulation type. The
// copy to a GPU does not wait for what the GPU does.
TokenBatch to_device(const Batch& batch, at::Device device, at::ScalarType accumulation);

// The two halves of it: tensors on the CPU, in pinned memory when `device`, where they will go, is a GPU; and
// the copy. The first may run on another thread than the second.
TokenBatch to_host(const Batch& batch, at::ScalarType accumulation, at::Device device);
TokenBatch send(const TokenBatch& host, at::Device device);

}  // namespace fwl
