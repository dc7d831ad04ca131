// Which windows of which documents an evaluation reads, in which batches, and on which rank. All of it is
// decided before a token is read and without regard to ranks, so that every window is computed in a batch of
// the same shape whatever their number: the results are the same, bit for bit.
//
// A document is scored by windows of `context` predictions. The first scores all of its own; each later one
// begins `context - stride` inputs before what is scored next, and scores `stride`. So every token but the
// document start is scored exactly once, with at least `context - stride` inputs before it where there are.
#pragma once

#include <cstdint>
#include <vector>

#include "data/dataset.h"
#include "launch/evaluation/carry.h"

namespace fwl {

struct ReadingOptions {
  int64_t context = 0;        // predictions of the first window, inputs of the others
  int64_t stride = 0;         // predictions of the other windows; 0: the context (nothing is read twice)
  int64_t max_documents = 0;  // the first N; 0: all
  bool spread = false;        // takes max_documents evenly from the whole split instead
  int64_t max_predictions =
      0;  // of each document, from its start (its bytes stay the whole document's); 0: all
};

// A document in the order of reading.
struct PlannedDocument {
  int64_t index = 0;        // in the split
  int64_t first_token = 0;  // in the split's stream: the document start
  int64_t predictions = 0;
  int64_t bytes = 0;
  int64_t slot = 0;  // of its first prediction among those of all documents
};

// Inputs [first, first + overlap + count) of the split's stream; the labels of the last `count` are scored.
struct Window {
  int64_t document = 0;  // place in the order of reading
  int64_t first = 0;
  int64_t overlap = 0;  // leading inputs whose labels an earlier window has scored
  int64_t count = 0;
  int64_t slot = 0;     // of its first scored label among those of all documents
  bool begins = false;  // carried fast weights start from zero here (mark_begins)
  int64_t inputs() const { return overlap + count; }
};

// Sequences that are read side by side, window by window; rows do not get longer.
using ReadingUnit = std::vector<std::vector<Window>>;

class ReadingPlan {
 public:
  // Throws ConfigError for a stride above the context, DataError for a split without a token to score.
  ReadingPlan(const Split& split, const ReadingOptions& options);

  const std::vector<PlannedDocument>& documents() const { return documents_; }
  int64_t tokens() const { return tokens_; }
  int64_t bytes() const { return bytes_; }
  const ReadingOptions& options() const { return options_; }

  // All windows, in reading order.
  enum class Overlap { kRead, kSkip };  // kSkip: each window begins where the one before ended
  std::vector<Window> windows(Overlap overlap) const;
  // `rows` windows of like length a unit: for modes in which every window stands alone.
  std::vector<ReadingUnit> by_window(int64_t rows) const;
  // `rows` documents of like length a unit.
  std::vector<ReadingUnit> by_document(int64_t rows, Overlap overlap) const;
  // Documents in windows of `length` predictions without overlap, as many side by side as hold `rows`
  // contexts: for modes in which all of a document is one sequence however it is cut, so that few windows go
  // on from one before.
  std::vector<ReadingUnit> by_long_window(int64_t rows, int64_t length) const;
  // The documents cut into `streams` parts of about as many tokens, one a unit.
  std::vector<ReadingUnit> by_stream(int64_t streams, Overlap overlap) const;

 private:
  std::vector<Window> windows_of(int64_t length, int64_t again) const;

  ReadingOptions options_;
  std::vector<PlannedDocument> documents_;
  int64_t tokens_ = 0, bytes_ = 0;
};

// Where carried fast weights start from zero: at the first window of a row, of a document where the scope is
// the document, and wherever they would otherwise learn from more than `carry.tokens` tokens. Rows of a unit
// that hold a document each begin in the same windows. `length`: predictions of a window without overlap.
void mark_begins(std::vector<ReadingUnit>& units, const Carry& carry, int64_t length);
// What begins with fast weights from zero as a row of its own, `rows` of like length a unit: for models whose
// windows share nothing else.
std::vector<ReadingUnit> cut_at_begins(const std::vector<ReadingUnit>& units, int64_t rows);

// The rank of every unit: longest first, each to the rank with the least to read so far.
std::vector<int> share_out(const std::vector<ReadingUnit>& units, int ranks);

}  // namespace fwl
