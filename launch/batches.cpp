#include "launch/batches.h"

#include <algorithm>

namespace fwl {

TokenBatch to_device(const Batch& batch, at::Device device, at::ScalarType accumulation) {
  // from_blob borrows the vectors; `to` or `clone` copies them out.
  const auto copy_of = [&](const void* data, at::IntArrayRef shape, at::ScalarType type) {
    return at::from_blob(const_cast<void*>(data), shape, at::TensorOptions().dtype(type)).clone().to(device);
  };
  const Tensor tokens = copy_of(batch.tokens.data(), {batch.rows, batch.length + 1}, at::kLong);
  TokenBatch result;
  result.input_bt = tokens.narrow(1, 0, batch.length);
  result.label_bt = tokens.narrow(1, 1, batch.length);
  result.weight_bt =
      at::ones({batch.rows, batch.length}, at::TensorOptions().dtype(accumulation).device(device));
  // Undefined when no document starts inside: the layer then shares one decay mask over all chunks.
  if (std::any_of(batch.document_start.begin(), batch.document_start.end(),
                  [](uint8_t s) { return s != 0; })) {
    result.document_start_bt =
        copy_of(batch.document_start.data(), {batch.rows, batch.length}, at::kByte).to(at::kBool);
  }
  return result;
}

}  // namespace fwl
