// A split of a data set, opened for reading: its documents, and its tokens as one stream over all shards.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "data/format.h"
#include "data/shard_reader.h"
#include "data/tokenizer.h"

namespace fwl {

// A data set's folder, and the split of it that a path names.
struct SplitPlace {
  std::string dataset_dir;
  std::string split;  // empty: the path is the data set's own
};
// Of DIR or DIR/SPLIT, where DIR, SPLIT or both may be symbolic links; none where no manifest is found. Of a
// path with "..", links are followed first, as the system does.
std::optional<SplitPlace> find_split(const std::string& path);

// For one thread at a time. The constructor reads the manifest alone, so that a split of any size opens at
// once; a shard is opened, and all but its tokens checked, by the first read, in the thread that reads. How
// many are open at once follows the process' budget (core/base/open_files.h). A split of up to 64 Mi tokens
// is kept in memory shard by shard as it is read.
class Split {
 public:
  // `path`: DIR (then its `train`) or DIR/SPLIT, as find_split. Throws DataError for a missing or damaged
  // manifest.
  explicit Split(const std::string& path, int64_t tokens_in_memory = int64_t{64} << 20);
  Split(Split&&) = default;

  const std::string& path() const { return dataset_dir_; }
  const std::string& name() const { return name_; }
  const Manifest& manifest() const { return manifest_; }
  int64_t num_tokens() const { return num_tokens_; }
  int64_t num_documents() const { return num_documents_; }
  int64_t total_bytes() const { return entry().bytes(); }
  int64_t vocab_size() const { return manifest_.vocab_size; }
  int32_t document_start() const { return manifest_.document_start; }
  // Throws DataError for a damaged index, as document_of() does.
  Document document(int64_t index) const;
  // First token of a document in the stream, and its end. Reads those two numbers alone.
  std::pair<int64_t, int64_t> document_range(int64_t index) const;
  // The documents and tokens of the shard that holds document `index`.
  struct ShardRange {
    int64_t first_document, end_document, first_token, end_token;
  };
  ShardRange shard_of(int64_t index) const;
  // Index of the document that holds token `position` of the stream.
  int64_t document_of(int64_t position) const;
  // The data set's tokenizer, loaded at first use and checked against the manifest's hash. Throws DataError.
  const Tokenizer& tokenizer() const;

  // The document that holds token `position`, and whether all of it can be read; the rest of the shard when
  // its index is damaged. For callers that met damage there.
  struct Extent {
    std::string name;  // of the document or of the shard's file
    int64_t first_token = 0, end_token = 0, documents = 1;
    bool is_sound = false;
  };
  Extent examine(int64_t position) const;
  // Tokens [first, first + count) of the stream. Throws DataError for a damaged shard or a token outside the
  // vocabulary.
  void read_tokens(int64_t first, int64_t count, int64_t* out) const;

 private:
  const SplitEntry& entry() const { return manifest_.splits.at(name_); }
  void locate(const std::string& path);
  const ShardReader& reader(size_t shard) const;
  size_t shard_of_token(int64_t position) const;
  size_t shard_of_document(int64_t index) const;
  const std::vector<Document>& documents_of(size_t shard) const;

  std::string dataset_dir_, name_;
  Manifest manifest_;
  std::vector<int64_t> first_token_of_shard_, first_document_of_shard_;
  int64_t num_tokens_ = 0, num_documents_ = 0, tokens_in_memory_;
  mutable std::vector<bool> is_checked_;  // per shard: its documents were found sound
  mutable std::list<std::pair<size_t, std::vector<Document>>> indexes_;  // most recently used first
  mutable std::list<std::pair<size_t, ShardReader>> readers_;            // most recently used first
  mutable std::unique_ptr<Tokenizer> tokenizer_;
};

}  // namespace fwl
