// A split of a data set, opened for reading: its documents, and its tokens as one stream over all shards.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "data/format.h"
#include "data/shard_reader.h"
#include "data/tokenizer.h"

namespace fwl {

// For one thread at a time. No HDF5 file stays open after construction; shards are opened by the first read,
// in the thread that reads, and the least recently used are closed again. A split of up to 64 Mi tokens is
// kept in memory shard by shard as it is read.
class Split {
 public:
  // `path`: DIR (then its `train`) or DIR/SPLIT. Checks the manifest and every shard's counts and documents.
  // Throws DataError naming path, dataset and offset.
  explicit Split(const std::string& path, int64_t tokens_in_memory = int64_t{64} << 20);
  Split(Split&&) = default;

  const std::string& path() const { return dataset_dir_; }
  const std::string& name() const { return name_; }
  const Manifest& manifest() const { return manifest_; }
  int64_t num_tokens() const { return num_tokens_; }
  int64_t num_documents() const { return static_cast<int64_t>(documents_.size()); }
  int64_t total_bytes() const { return entry().bytes(); }
  int64_t vocab_size() const { return manifest_.vocab_size; }
  int32_t document_start() const { return manifest_.document_start; }
  const Document& document(int64_t index) const;
  // Index of the document that holds token `position` of the stream.
  int64_t document_of(int64_t position) const;
  // The data set's tokenizer, loaded at first use and checked against the manifest's hash. Throws DataError.
  const Tokenizer& tokenizer() const;

  // Tokens [first, first + count) of the stream. Throws DataError for a damaged shard or a token outside the
  // vocabulary.
  void read_tokens(int64_t first, int64_t count, int64_t* out) const;

 private:
  const SplitEntry& entry() const { return manifest_.splits.at(name_); }
  void locate(const std::string& path);
  const ShardReader& reader(size_t shard) const;

  std::string dataset_dir_, name_;
  Manifest manifest_;
  std::vector<Document> documents_;
  std::vector<int64_t> first_token_of_shard_;
  int64_t num_tokens_ = 0, tokens_in_memory_;
  mutable std::list<std::pair<size_t, ShardReader>> open_;  // most recently used first
  mutable std::unique_ptr<Tokenizer> tokenizer_;
};

}  // namespace fwl
