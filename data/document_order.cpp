#include "data/document_order.h"

#include <iterator>

#include "core/base/log.h"
#include "data/sample_order.h"

namespace fwl {

DocumentOrder::DocumentOrder(const Split& split, int64_t context, uint64_t seed, int64_t streams,
                             BadData bad_data)
    : split_(&split),
      context_(context),
      streams_(streams),
      seed_(seed),
      bad_data_(bad_data),
      readings_(static_cast<size_t>(streams)),
      labels_left_(split.num_tokens() - split.num_documents()) {
  require<DataError>(labels_left_ > 0, split.path(), ": split ", split.name(), " has ", split.num_documents(),
                     " documents and no text (nothing can be learned). Give a split with text.");
}

int64_t DocumentOrder::document_dealt_as(int64_t ordinal) const {
  const int64_t documents = split_->num_documents();
  return window_of(seed_, ordinal / documents, ordinal % documents, documents);
}

// Leaves out the document's shard, whose index is damaged; false when that must stop the run.
bool DocumentOrder::leave_out(int64_t document, const DataError& problem) const {
  if (bad_data_ == BadData::kStop) return false;
  const Split::ShardRange shard = split_->shard_of(document);
  left_out_[shard.first_document] = shard.end_document;
  const int64_t documents = shard.end_document - shard.first_document;
  labels_left_ -= shard.end_token - shard.first_token - documents;
  log_warn(cat(problem.what(), " Its ", documents,
               " documents are left out (data.skip_bad). Run `fwl data check`."));
  require<DataError>(labels_left_ > 0, split_->path(), ": split ", split_->name(),
                     " has no shard left whose index is sound (see the warnings above; nothing can be "
                     "learned). Make the data set again.");
  return true;
}

void DocumentOrder::look_up(int64_t document, Reading& reading) const {
  reading.windows = 0;
  const auto after = left_out_.upper_bound(document);
  if (after != left_out_.begin() && document < std::prev(after)->second) return;
  try {
    const auto [first, end] = split_->document_range(document);
    reading.document = {document, first, end};
    reading.windows = (end - first - 1 + context_ - 1) / context_;
  } catch (const DataError& problem) {
    if (!leave_out(document, problem)) throw;
  }
}

void DocumentOrder::take_next_document(int64_t stream, Reading& reading) const {
  DocumentCursor& cursor = reading.cursor;
  cursor.first_window += reading.windows;
  do look_up(document_dealt_as(cursor.dealt++ * streams_ + stream), reading);
  while (reading.windows == 0);
}

DocumentOrder::Window DocumentOrder::window(int64_t stream, int64_t number) const {
  Reading& reading = readings_.at(static_cast<size_t>(stream));
  if (number < reading.cursor.first_window) reading = {};
  while (number >= reading.cursor.first_window + reading.windows) take_next_document(stream, reading);
  Window window = reading.document;
  window.first_token += (number - reading.cursor.first_window) * context_;
  return window;
}

std::vector<DocumentCursor> DocumentOrder::cursors_at(int64_t number) const {
  std::vector<DocumentCursor> cursors;
  for (int64_t stream = 0; stream < streams_; ++stream) {
    window(stream, number);
    cursors.push_back(readings_[static_cast<size_t>(stream)].cursor);
  }
  return cursors;
}

void DocumentOrder::go_on_from(const std::vector<DocumentCursor>& cursors) {
  require<DataError>(static_cast<int64_t>(cursors.size()) == streams_, "a position of ", cursors.size(),
                     " streams of documents cannot be that of ", streams_,
                     " streams (each reads its own documents). Resume with the batch of the run.");
  for (int64_t stream = 0; stream < streams_; ++stream) {
    const DocumentCursor& cursor = cursors[static_cast<size_t>(stream)];
    Reading reading{cursor, 0, {}};
    const bool in_range =
        cursor.dealt > 0 && cursor.first_window >= 0 && cursor.dealt <= INT64_MAX / streams_;
    if (in_range) look_up(document_dealt_as((cursor.dealt - 1) * streams_ + stream), reading);
    require<DataError>(reading.windows > 0, split_->path(), ": stream ", stream, " cannot be at document ",
                       cursor.dealt, " of its own, from window ", cursor.first_window,
                       " on (the position is damaged, or of other data). Use another checkpoint.");
    readings_[static_cast<size_t>(stream)] = reading;
  }
}

int64_t DocumentOrder::documents_left_out() const {
  int64_t documents = 0;
  for (const auto& [first, end] : left_out_) documents += end - first;
  return documents;
}

}  // namespace fwl
