// From sample numbers to batches of token windows.
#pragma once

#include <cstdint>
#include <vector>

#include "data/dataset.h"

namespace fwl {

// `length` positions of each row.
struct Batch {
  int64_t rows = 0, length = 0;
  std::vector<int64_t> tokens;          // rows x (length + 1), row-major: inputs are [:, :-1], labels [:, 1:]
  std::vector<uint8_t> document_start;  // rows x length: 1 where the input token is a document-start token
};

// Which window of the split's token stream a sample is. It depends on the sample's number alone: not on
// ranks, threads, batch sizes or earlier reads.
//
// Shuffled (streams = 0): an epoch cuts the split's stream into windows of `context` tokens (and the label
// after the last), shifted by an offset below `context` that differs between epochs. Sample s reads window
// window_of(seed, epoch, s % windows_per_epoch(), windows_per_epoch()) of epoch s / windows_per_epoch().
//
// In reading order (streams = B > 0): B streams read the split side by side, each window where the one before
// ended. Stream b = s % B starts at the b-th of B equal parts of the split (all shifted by an offset that the
// seed picks) and goes on round the split's end; sample s is its window s / B. After N / B tokens each, the
// streams have read every token once.
class Loader {
 public:
  // `split` must outlive the loader. Throws DataError when the split is shorter than one window.
  Loader(const Split& split, int64_t context, uint64_t seed, int64_t streams = 0);
  int64_t windows_per_epoch() const { return windows_; }
  // First token of a sample's window in the split's stream.
  int64_t first_token_of(int64_t sample) const;
  // Positions [first_position, first_position + positions) of samples [first_sample, first_sample + rows),
  // and the label after the last. Throws DataError for a damaged shard.
  Batch read(int64_t first_sample, int64_t rows, int64_t first_position, int64_t positions) const;
  // All positions.
  Batch read(int64_t first_sample, int64_t rows) const { return read(first_sample, rows, 0, context_); }
  // Identifies the sequence of samples: of the shards' checksums, the context, the streams and the seed.
  uint64_t sequence_hash() const;

 private:
  const Split& split_;
  int64_t context_, windows_;
  uint64_t seed_;
  int64_t streams_;
};

}  // namespace fwl
