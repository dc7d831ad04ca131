// Documents dealt to streams, each read whole and in reading order, as a pure function: stream b reads the
// documents of ordinals b, b + B, b + 2 B, ..., one after the other. Ordinal g is document
// window_of(seed, g / D, g % D, D) of the split's D documents (sample_order.h): each epoch deals every
// document once. A document of L tokens has L - 1 labels and takes ceil((L - 1) / context) windows; one
// without labels takes none.
//
// Which document a stream's n-th window lies in follows from the lengths of the stream's documents before it.
// Each stream has a cursor where it was asked last, so that reading on costs nothing; going back behind the
// cursor walks from the start, one length per document. Cursors are two numbers a stream: a checkpoint keeps
// them, and a resumed run goes on from there without a walk. Memory: one cursor per stream.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "core/base/error.h"
#include "data/dataset.h"

namespace fwl {

// What to do when bytes of a shard are damaged.
enum class BadData {
  kStop,     // throw DataError
  kLeaveOut  // go on without the document, or without the shard's documents where their index is damaged
};

// Where a stream is: enough to go on from there.
struct DocumentCursor {
  int64_t dealt = 0;         // ordinals that the stream has taken; the last is the document it reads
  int64_t first_window = 0;  // number, in the stream, of that document's first window
  bool operator==(const DocumentCursor&) const = default;
};

class DocumentOrder {
 public:
  // `split` must outlive it. Throws DataError when no document has a label.
  DocumentOrder(const Split& split, int64_t context, uint64_t seed, int64_t streams,
                BadData bad_data = BadData::kStop);
  // A window's tokens: inputs from `first_token` on, nothing from `end_token`, the document's end, on.
  struct Window {
    int64_t document, first_token, end_token;
  };
  // Window `number` of stream `stream`. For one thread at a time. Throws DataError for a damaged index, with
  // BadData::kLeaveOut only when no shard with text is left.
  Window window(int64_t stream, int64_t number) const;

  // The cursors of all streams at window `number`.
  std::vector<DocumentCursor> cursors_at(int64_t number) const;
  // Goes on from cursors of this order. Throws DataError for others, as far as one read a stream can tell.
  void go_on_from(const std::vector<DocumentCursor>& cursors);

  // Documents of the shards that were left out so far because their index is damaged.
  int64_t documents_left_out() const;

 private:
  struct Reading {
    DocumentCursor cursor;
    int64_t windows = 0;  // of the document
    Window document{};    // all of it
  };
  int64_t document_dealt_as(int64_t ordinal) const;
  void look_up(int64_t document, Reading& reading) const;
  bool leave_out(int64_t document, const DataError& problem) const;
  void take_next_document(int64_t stream, Reading& reading) const;

  const Split* split_;
  int64_t context_, streams_;
  uint64_t seed_;
  BadData bad_data_;
  mutable std::vector<Reading> readings_;
  mutable std::map<int64_t, int64_t> left_out_;  // documents [key, value), whose shard's index is damaged
  mutable int64_t labels_left_;                  // an upper bound: of shards not found damaged
};

}  // namespace fwl
