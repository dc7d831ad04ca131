#include "data/document_order.h"

#include "core/base/error.h"
#include "data/sample_order.h"

namespace fwl {

DocumentOrder::DocumentOrder(const Split& split, int64_t context, uint64_t seed, int64_t streams)
    : split_(&split),
      context_(context),
      streams_(streams),
      seed_(seed),
      cursors_(static_cast<size_t>(streams)) {
  require<DataError>(split.num_tokens() > split.num_documents(), split.path(), ": split ", split.name(),
                     " has ", split.num_documents(),
                     " documents and no text (nothing can be learned). Give a split with text.");
}

void DocumentOrder::take_next_document(int64_t stream, Cursor& cursor) const {
  const int64_t documents = split_->num_documents();
  cursor.first_number += cursor.windows;
  do {
    const int64_t ordinal = cursor.dealt++ * streams_ + stream;
    const int64_t document = window_of(seed_, ordinal / documents, ordinal % documents, documents);
    const auto [first, end] = split_->document_range(document);
    cursor.document = {document, first, end};
    cursor.windows = (end - first - 1 + context_ - 1) / context_;
  } while (cursor.windows == 0);
}

DocumentOrder::Window DocumentOrder::window(int64_t stream, int64_t number) const {
  Cursor& cursor = cursors_.at(static_cast<size_t>(stream));
  if (number < cursor.first_number) cursor = {};
  while (number >= cursor.first_number + cursor.windows) take_next_document(stream, cursor);
  Window window = cursor.document;
  window.first_token += (number - cursor.first_number) * context_;
  return window;
}

}  // namespace fwl
