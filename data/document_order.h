// Documents dealt to streams, each read whole and in reading order, as a pure function: stream b reads the
// documents of ordinals b, b + B, b + 2 B, ..., one after the other. Ordinal g is document
// window_of(seed, g / D, g % D, D) of the split's D documents (sample_order.h): each epoch deals every
// document once. A document of L tokens has L - 1 labels and takes ceil((L - 1) / context) windows; one
// without labels takes none.
//
// Which document a stream's n-th window lies in follows from the lengths of the stream's documents before it.
// Each stream remembers where it was asked last, so that reading on costs nothing; going back, or a resumed
// run, walks from the start: one length per document. Memory: one entry per stream.
#pragma once

#include <cstdint>
#include <vector>

#include "data/dataset.h"

namespace fwl {

class DocumentOrder {
 public:
  // `split` must outlive it. Throws DataError when no document has a label.
  DocumentOrder(const Split& split, int64_t context, uint64_t seed, int64_t streams);
  // A window's tokens: inputs from `first_token` on, nothing from `end_token`, the document's end, on.
  struct Window {
    int64_t document, first_token, end_token;
  };
  // Window `number` of stream `stream`. For one thread at a time. Throws DataError for a damaged index.
  Window window(int64_t stream, int64_t number) const;

 private:
  struct Cursor {
    int64_t dealt = 0;         // ordinals that this stream has taken
    int64_t first_number = 0;  // number of the document's first window
    int64_t windows = 0;       // of the document
    Window document{};         // all of it
  };
  void take_next_document(int64_t stream, Cursor& cursor) const;

  const Split* split_;
  int64_t context_, streams_;
  uint64_t seed_;
  mutable std::vector<Cursor> cursors_;
};

}  // namespace fwl
