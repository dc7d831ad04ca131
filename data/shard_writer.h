// Writes the shards of one split.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/format.h"

namespace fwl {

struct TokenizedDocument {
  std::string name;
  int64_t bytes = 0;
  std::vector<int32_t> tokens;  // begins with the document-start token
};

// Documents are appended in order; a shard is published when it has reached its size, the last one by
// finish().
class ShardWriter {
 public:
  ShardWriter(std::string dataset_dir, std::string split, const Manifest& manifest, int64_t shard_tokens);
  void append(TokenizedDocument document);
  // Publishes what is left; the split's entry for the manifest.
  SplitEntry finish();

 private:
  void publish();
  std::string dataset_dir_, split_, tokenizer_hash_;
  int64_t vocab_size_, shard_tokens_;
  std::vector<uint32_t> tokens_;
  std::vector<int64_t> offsets_ = {0}, bytes_;
  std::vector<std::string> names_;
  SplitEntry entry_;
};

}  // namespace fwl
