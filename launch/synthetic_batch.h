// Random token batches with everything that can go wrong at the edges of shards: for checks and measurements
// that need no data set. A pure function of (seed, row, position): any rank makes its part alone.
#pragma once

#include "core/model/language_model.h"
#include "launch/step_gradient.h"

namespace fwl {

struct SyntheticText {
  uint64_t seed = 1;
  int64_t vocab_size = 0;
  // Positions where a document starts, in every row: ascending.
  std::vector<int64_t> document_starts;
  // Rows that are not scored at all.
  std::vector<int64_t> unscored_rows;
};

// Documents that start inside shards of `length` positions, at their edges, and one position to either side;
// every other row starts one only in its last shard. Rows 0 and `rows` - 1 are not scored when there are more
// than two.
SyntheticText awkward_text(uint64_t seed, int64_t vocab_size, int64_t rows, int64_t length, int64_t shards);

// Rows [first_row, first_row + rows) at positions [first, first + count), on the device. Weights in
// `accumulation`.
TokenBatch synthetic_batch(const SyntheticText& text, int64_t first_row, int64_t rows, int64_t first,
                           int64_t count, at::Device device, at::ScalarType accumulation);
// Scored tokens of rows [0, rows), of `length` each.
double scored_tokens(const SyntheticText& text, int64_t rows, int64_t length);

}  // namespace fwl
