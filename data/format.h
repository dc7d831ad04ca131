// The data set format: names, version, manifest. data/FORMAT.md describes it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace fwl {

inline constexpr int64_t kDatasetVersion = 1;
inline constexpr const char* kDatasetFormat = "fwl-dataset";
inline constexpr const char* kShardFormat = "fwl-shard";
inline constexpr const char* kManifestName = "manifest.json";
inline constexpr const char* kTokenizerName = "tokenizer.model";

struct ShardEntry {
  std::string file;  // relative to the data set's folder
  int64_t tokens = 0;
  int64_t documents = 0;
  int64_t bytes = 0;
  std::string checksum;  // hexadecimal
};

struct SplitEntry {
  std::vector<ShardEntry> shards;
  int64_t tokens() const;
  int64_t documents() const;
  int64_t bytes() const;
};

struct Manifest {
  std::string tokenizer_kind;
  std::string tokenizer_hash;  // hexadecimal
  int64_t vocab_size = 0;
  int32_t document_start = 0;
  std::map<std::string, SplitEntry> splits;
};

// Throws DataError naming the manifest and what is wrong (missing, no JSON, another version, absurd numbers,
// a shard path that leaves the folder).
Manifest read_manifest(const std::string& dataset_dir);
// Publishes the manifest by rename.
void write_manifest(const std::string& dataset_dir, const Manifest& manifest);

std::string to_hex(uint64_t value);
// FNV-1a over tokens as little-endian 32-bit words; feed parts in order, starting from kTokenHashSeed.
inline constexpr uint64_t kTokenHashSeed = 0xCBF29CE484222325ull;
uint64_t hash_tokens(const uint32_t* tokens, int64_t count, uint64_t hash);

}  // namespace fwl
