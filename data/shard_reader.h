// Reads one shard (data/FORMAT.md) and checks it against the manifest.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/base/hdf5.h"
#include "data/format.h"

namespace fwl {

struct Document {
  std::string name;
  int64_t first_token = 0;  // in the stream it was asked from; it is the document-start token
  int64_t num_tokens = 0;
  int64_t num_bytes = 0;
};

class ShardReader {
 public:
  // Opens `dataset_dir`/`entry.file`. Throws DataError when it is damaged, of another version or tokenizer,
  // or has other counts or another checksum than the manifest says; UnavailableError when it cannot be read.
  // Of a symbolic link to outside the data set all tokens are read once a process, before any of them is
  // used, and must have the manifest's checksum.
  ShardReader(const std::string& dataset_dir, const ShardEntry& entry, const Manifest& manifest);

  // The shard's documents; `first_token` counts from the shard's begin. Throws DataError.
  std::vector<Document> documents() const;
  // First token of document `index`, and its end; without reading the whole index. Throws DataError.
  std::pair<int64_t, int64_t> document_range(int64_t index) const;
  // Tokens [first, first + count) of the shard. Throws DataError naming the offset of a damaged chunk or of a
  // token outside the vocabulary.
  void read(int64_t first, int64_t count, int64_t* out) const;
  // Reads all tokens (4 bytes each) and offsets into memory and closes the file; documents() must not follow.
  // Throws DataError when their checksum is not the manifest's.
  void load();
  // The open file; only before load().
  const Hdf5File& file() const { return *file_; }
  const std::string& path() const { return path_; }

 private:
  void check_attributes(const Manifest& manifest) const;
  void check_tokens();
  void prove_tokens() const;
  void require_checksum(uint64_t hash) const;
  void widen(const auto* tokens, int64_t first, int64_t count, int64_t* out) const;

  std::string path_;
  std::optional<Hdf5File> file_;  // until load()
  ShardEntry entry_;
  int64_t vocab_size_;
  bool narrow_ = true;  // uint16, not uint32
  std::vector<uint32_t> loaded_;
  std::vector<int64_t> loaded_offsets_;
  mutable std::vector<uint16_t> narrow_buffer_;  // kept between reads: no allocation per window
  mutable std::vector<uint32_t> wide_buffer_;
};

}  // namespace fwl
