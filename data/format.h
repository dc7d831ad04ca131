// The data set format: names, version, manifest. data/FORMAT.md describes it.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/base/hex.h"

namespace fwl {

inline constexpr int64_t kDatasetVersion = 3;        // written
inline constexpr int64_t kOldestDatasetVersion = 1;  // read
inline constexpr int64_t kShardVersion = 2;          // written; 1 is read
inline constexpr const char* kDatasetFormat = "fwl-dataset";
inline constexpr const char* kShardFormat = "fwl-shard";
inline constexpr const char* kManifestName = "manifest.json";
inline constexpr const char* kTokenizerName = "tokenizer.model";  // beside the manifest up to version 2

struct ShardEntry {
  std::string file;  // relative to the data set's folder
  int64_t tokens = 0;
  int64_t documents = 0;
  int64_t bytes = 0;
  std::string checksum;      // hexadecimal
  int64_t invalid_utf8 = 0;  // bytes of the text that are no part of valid UTF-8
};

// How a shard's datasets are stored. Every kind has a checksum per chunk.
enum class Compression { kNone, kDeflate, kZstd };
// "none", "deflate", "zstd". Throws ConfigError for another word, and for zstd without HDF5's filter.
Compression parse_compression(const std::string& name);
const char* name_of(Compression compression);

struct SplitEntry {
  std::vector<ShardEntry> shards;
  int64_t tokens() const;
  int64_t documents() const;
  int64_t bytes() const;
  int64_t invalid_utf8() const;
};

struct Manifest {
  std::string tokenizer_kind;
  std::string tokenizer_hash;  // hexadecimal
  int64_t vocab_size = 0;
  int32_t document_start = 0;
  std::map<std::string, SplitEntry> splits;
  Compression compression = Compression::kDeflate;  // what the writer was asked for
  std::string tokenizer_bytes;                      // Tokenizer::serialized()
  int64_t bad_lines = 0;                            // of the sources, that gave no document
  bool tokenizer_is_beside = false;  // a data set of version 1 or 2: in a file, `tokenizer_bytes` is empty
};

// Throws DataError naming the manifest and what is wrong (missing, no JSON, another version, absurd numbers,
// a shard path or a split's name that leaves the folder).
Manifest read_manifest(const std::string& dataset_dir);
// Publishes the manifest by rename.
void write_manifest(const std::string& dataset_dir, const Manifest& manifest);

// One shard as JSON text and back; journals use the manifest's spelling. Throws DataError naming `where`.
std::string to_json_text(const ShardEntry& shard);
ShardEntry shard_from_json_text(const std::string& text, const std::string& where);

// FNV-1a over tokens as little-endian 32-bit words; feed parts in order, starting from kTokenHashSeed.
inline constexpr uint64_t kTokenHashSeed = 0xCBF29CE484222325ull;
uint64_t hash_tokens(const uint32_t* tokens, int64_t count, uint64_t hash);

}  // namespace fwl
