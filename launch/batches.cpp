#include "launch/batches.h"

#include <algorithm>
#include <cstring>

namespace fwl {
namespace {

bool any(const std::vector<uint8_t>& flags) {
  return std::any_of(flags.begin(), flags.end(), [](uint8_t f) { return f != 0; });
}

// 0 where a label is left out, else 1. A plain loop: ATen's wake all threads for a fraction of a megabyte,
// which takes longer than all of a batch's reading.
template <typename Weight>
void fill_weights(const std::vector<uint8_t>& left_out, const Tensor& weight_bt) {
  auto* const weights = weight_bt.mutable_data_ptr<Weight>();
  std::fill_n(weights, weight_bt.numel(), Weight(1));
  for (size_t i = 0; i < left_out.size(); ++i)
    if (left_out[i] != 0) weights[i] = 0;
}

}  // namespace

TokenBatch to_host(const Batch& batch, at::ScalarType accumulation, at::Device device) {
  // A copy to a GPU from memory that is not pinned waits for all work on its stream.
  const auto options = [&](at::ScalarType type) {
    return at::TensorOptions().dtype(type).pinned_memory(device.is_cuda());
  };
  const auto copy_of = [&](const void* data, at::IntArrayRef shape, at::ScalarType type) {
    Tensor copy = at::empty(shape, options(type));
    std::memcpy(copy.mutable_data_ptr(), data, static_cast<size_t>(copy.nbytes()));
    return copy;
  };
  const Tensor tokens = copy_of(batch.tokens.data(), {batch.rows, batch.length + 1}, at::kLong);
  TokenBatch result;
  result.input_bt = tokens.narrow(1, 0, batch.length);
  result.label_bt = tokens.narrow(1, 1, batch.length);
  result.weight_bt = at::empty({batch.rows, batch.length}, options(accumulation));
  if (accumulation == at::kDouble) {
    fill_weights<double>(batch.left_out, result.weight_bt);
  } else {
    fill_weights<float>(batch.left_out, result.weight_bt);
  }
  // Undefined when no document starts inside: the layer then shares one decay mask over all chunks.
  if (any(batch.document_start))
    result.document_start_bt = copy_of(batch.document_start.data(), {batch.rows, batch.length}, at::kByte);
  return result;
}

TokenBatch send(const TokenBatch& host, at::Device device) {
  const auto sent = [&](const Tensor& t) { return t.to(device, /*non_blocking=*/true); };
  TokenBatch result;
  // Input and label are two views of one tensor: one copy serves both.
  const int64_t rows = host.input_bt.size(0), length = host.input_bt.size(1);
  const Tensor tokens = sent(host.input_bt.as_strided({rows, length + 1}, {length + 1, 1}));
  result.input_bt = tokens.narrow(1, 0, length);
  result.label_bt = tokens.narrow(1, 1, length);
  result.weight_bt = sent(host.weight_bt);
  if (host.document_start_bt.defined()) result.document_start_bt = sent(host.document_start_bt).to(at::kBool);
  return result;
}

TokenBatch to_device(const Batch& batch, at::Device device, at::ScalarType accumulation) {
  return send(to_host(batch, accumulation, device), device);
}

}  // namespace fwl
