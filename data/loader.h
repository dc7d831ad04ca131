// From sample numbers to batches of token windows.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "data/dataset.h"
#include "data/document_order.h"

namespace fwl {

// `length` positions of each row.
struct Batch {
  int64_t rows = 0, length = 0;
  std::vector<int64_t> tokens;          // rows x (length + 1), row-major: inputs are [:, :-1], labels [:, 1:]
  std::vector<uint8_t> document_start;  // rows x length: 1 where the input token is a document-start token
  std::vector<uint8_t> left_out;        // rows x length: 1 where the label must not count; empty: none
};

// One data set of a mixture.
struct MixturePart {
  const Split* split = nullptr;
  double weight = 1;  // share of the samples, relative to the other parts'
};

// What streams read one after the other.
enum class StreamOrder {
  kPacked,    // the split, documents concatenated
  kDocuments  // whole documents, in an order that the seed picks
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
//
// One document a stream (streams = B > 0, StreamOrder::kDocuments): sample s is window s / B of stream s % B
// in DocumentOrder. A window never mixes documents: behind the document's end it holds document-start tokens
// whose labels are left out and which are not marked as document starts.
//
// Mixture: sample s is a sample of the data set that mixture_place() names, by that data set's own count;
// each has epochs of its own. Streams read one data set.
// Damage, under BadData::kLeaveOut: from where it is met, a damaged document's tokens are replaced by
// document starts whose labels are left out; documents of a shard with a damaged index are not dealt to
// streams.
class Loader {
 public:
  // `split` must outlive the loader. Throws DataError when the split is shorter than one window.
  Loader(const Split& split, int64_t context, uint64_t seed, int64_t streams = 0,
         BadData bad_data = BadData::kStop, StreamOrder order = StreamOrder::kPacked);
  // Throws ConfigError for a weight that is not positive, DataError as above. The splits must share a
  // tokenizer.
  Loader(const std::vector<MixturePart>& mixture, int64_t context, uint64_t seed,
         BadData bad_data = BadData::kStop);
  // Of the first data set.
  int64_t windows_per_epoch() const { return parts_.front().windows; }
  // First token of a sample's window in its split's stream.
  int64_t first_token_of(int64_t sample) const;
  // Positions [first_position, first_position + positions) of samples [first_sample, first_sample + rows),
  // and the label after the last. Throws DataError for a damaged shard.
  Batch read(int64_t first_sample, int64_t rows, int64_t first_position, int64_t positions) const;
  // All positions.
  Batch read(int64_t first_sample, int64_t rows) const { return read(first_sample, rows, 0, context_); }
  // Labels of samples [first, first + count) that count when no document's tokens are damaged.
  int64_t labels_in(int64_t first, int64_t count) const;
  // Identifies the sequence of samples: of the shards' checksums, the context, the streams and the seed.
  uint64_t sequence_hash() const;
  // The rolling hash of the samples [first, first + count), which went on from `before`: of each sample's
  // number, data set and first token.
  uint64_t rolling_hash(uint64_t before, int64_t first, int64_t count) const;
  // A checkpoint's rolling hash is computed again from a point that moves on once the run is this many
  // samples past it: a resume takes no longer, however far the run is.
  int64_t samples_checked_at_resume() const;
  // What StreamOrder::kDocuments needs, beside the sample's number, to go on at `sample` (a multiple of the
  // streams) in constant time; empty for the other orders, which need nothing.
  std::vector<DocumentCursor> cursors_at(int64_t sample) const;
  // Throws DataError for cursors that cannot be of this order.
  void go_on_from(const std::vector<DocumentCursor>& cursors);
  // Number of the document in which a sample's window begins; -1 where a damaged index does not tell and
  // BadData::kLeaveOut goes on without it.
  int64_t document_of(int64_t sample) const;
  // Documents left out so far, under BadData::kLeaveOut: all of a shard where its index is damaged.
  int64_t documents_left_out() const;

 private:
  struct Part {
    const Split* split;
    int64_t weight, windows;
  };
  struct Place {
    size_t part;
    int64_t first_token;
    int64_t end_token = INT64_MAX;  // nothing is read from there on
  };
  // A document that is left out, or all of a shard.
  struct Damage {
    size_t part;
    int64_t first_token, end_token, documents;
  };
  Place place_of(int64_t sample) const;
  int64_t first_token_in(const Part& part, int64_t index) const;
  void read_row(const Place& place, int64_t count, int64_t* tokens) const;
  void find_damage(const Place& place, int64_t count) const;
  void read_around_damage(const Place& place, int64_t count, int64_t* tokens,
                          std::vector<uint8_t>& bad) const;
  void read_sound(const Place& place, int64_t count, int64_t* tokens, std::vector<uint8_t>& bad) const;
  void leave_out(Batch& batch, int64_t row, const std::vector<uint8_t>& bad) const;

  std::vector<Part> parts_;
  std::vector<int64_t> weights_;
  int64_t context_;
  uint64_t seed_;
  int64_t streams_ = 0;
  std::unique_ptr<DocumentOrder> documents_;  // with StreamOrder::kDocuments
  BadData bad_data_ = BadData::kStop;
  mutable std::vector<Damage> damaged_;
};

}  // namespace fwl
