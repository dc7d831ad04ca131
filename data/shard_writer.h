// Writes the shards of one split.
//
// Tokens go to the file as they come: only the open shard's index and some thousand tokens are in memory. The
// bytes of a file depend on its documents alone, not on how they are cut into append() calls.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/base/hdf5.h"
#include "data/format.h"

namespace fwl {

struct TokenizedDocument {
  std::string name;
  int64_t bytes = 0;
  std::vector<int32_t> tokens;  // begins with the document-start token
};

// Documents are appended in order; a shard is published when it has reached its size, the last one by
// finish(). All throw DataError when the disk is full or the folder cannot be written: then nothing of the
// open shard is left.
class ShardWriter {
 public:
  // The next shard is `dataset_dir`/`split`/shard-TAGnnnnn.h5, where nnnnn counts from published.shards.
  ShardWriter(std::string dataset_dir, std::string split, const Manifest& manifest, int64_t shard_tokens,
              std::string tag = "", SplitEntry published = {});
  ShardWriter(ShardWriter&&) = default;
  ~ShardWriter();

  // Begins a document, which must be the first call; `tokens` begin with the document-start token.
  void begin_document(const std::string& name);
  // Goes on with the document: `bytes` of its text, `invalid_utf8` of them no part of valid UTF-8.
  void extend(const int32_t* tokens, int64_t count, int64_t bytes, int64_t invalid_utf8);
  void end_document();
  // The three above in one.
  void append(const TokenizedDocument& document);
  // Publishes what is left; the split's entry for the manifest.
  SplitEntry finish();
  const SplitEntry& published() const { return entry_; }

 private:
  void open();
  void flush(size_t count);
  void publish();
  void discard() noexcept;

  std::string dataset_dir_, split_, tag_, tokenizer_hash_;
  int64_t vocab_size_, shard_tokens_;
  Compression compression_;
  std::optional<Hdf5File> file_;  // the open shard, under its temporary name
  std::vector<uint32_t> pending_;
  uint64_t hash_ = kTokenHashSeed;
  int64_t tokens_ = 0, invalid_utf8_ = 0;
  std::vector<int64_t> offsets_ = {0}, bytes_;
  std::vector<std::string> names_;
  SplitEntry entry_;
};

}  // namespace fwl
