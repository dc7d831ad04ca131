// From the data pipeline's plain arrays to tensors on the model's device.
#pragma once

#include "core/model/language_model.h"
#include "data/loader.h"

namespace fwl {

// All labels of a training window are scored: weight 1 everywhere. `accumulation` is the model's accumulation
// type.
TokenBatch to_device(const Batch& batch, at::Device device, at::ScalarType accumulation);

}  // namespace fwl
