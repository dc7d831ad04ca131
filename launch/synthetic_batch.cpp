#include "launch/synthetic_batch.h"

#include <algorithm>

#include "core/base/hash.h"

namespace fwl {
namespace {

int64_t token_at(const SyntheticText& text, int64_t row, int64_t position) {
  const uint64_t key = mix_bits(text.seed ^ mix_bits(static_cast<uint64_t>(row)));
  return static_cast<int64_t>(mix_bits(key ^ static_cast<uint64_t>(position)) %
                              static_cast<uint64_t>(text.vocab_size));
}

bool contains(const std::vector<int64_t>& sorted, int64_t value) {
  return std::binary_search(sorted.begin(), sorted.end(), value);
}

}  // namespace

SyntheticText awkward_text(uint64_t seed, int64_t vocab_size, int64_t rows, int64_t length, int64_t shards) {
  SyntheticText text{seed, vocab_size, {}, {}};
  const auto add = [&](int64_t position) {
    if (position > 0 && position < length * shards) text.document_starts.push_back(position);
  };
  add(length / 3);  // inside the first shard
  if (shards > 1) add(length);
  if (shards > 2) add(2 * length - 1);
  if (shards > 3) add(3 * length + 1);
  if (shards > 1) add((shards - 1) * length + length / 2);
  std::sort(text.document_starts.begin(), text.document_starts.end());
  if (rows > 2) text.unscored_rows = {0, rows - 1};
  return text;
}

TokenBatch synthetic_batch(const SyntheticText& text, int64_t first_row, int64_t rows, int64_t first,
                           int64_t count, at::Device device, at::ScalarType accumulation) {
  Tensor tokens = at::empty({rows, count + 1}, at::kLong);
  Tensor weight = at::ones({rows, count}, accumulation);
  Tensor start = at::zeros({rows, count}, at::kBool);
  for (int64_t r = 0; r < rows; ++r) {
    int64_t* row = tokens[r].mutable_data_ptr<int64_t>();
    for (int64_t t = 0; t <= count; ++t) row[t] = token_at(text, first_row + r, first + t);
    if (contains(text.unscored_rows, first_row + r)) weight[r].zero_();
    // Even rows have all documents, odd ones the last alone.
    for (const int64_t d : text.document_starts) {
      const bool has = (first_row + r) % 2 == 0 || d == text.document_starts.back();
      if (has && d >= first && d < first + count) start[r][d - first] = true;
    }
  }
  tokens = tokens.to(device);
  TokenBatch batch{tokens.narrow(1, 0, count), tokens.narrow(1, 1, count), weight.to(device), {}};
  if (start.any().item<bool>()) batch.document_start_bt = start.to(device);
  return batch;
}

double scored_tokens(const SyntheticText& text, int64_t rows, int64_t length) {
  int64_t scored = 0;
  for (int64_t r = 0; r < rows; ++r) scored += contains(text.unscored_rows, r) ? 0 : length;
  return static_cast<double>(scored);
}

}  // namespace fwl
