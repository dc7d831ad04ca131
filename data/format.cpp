#include "data/format.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/file.h"

namespace fwl {
namespace {

using nlohmann::json;

// Sums over all shards of a split stay below 2^62.
constexpr int64_t kMostInShard = int64_t{1} << 44;
constexpr size_t kMostShards = size_t{1} << 18;

[[noreturn]] void refuse(const std::string& problem) {
  throw json::out_of_range::create(401, problem, nullptr);
}

int64_t count_of(const json& object, const char* key) {
  const json& value = object.at(key);
  if (!value.is_number_integer() || value < 0 || value > kMostInShard)
    refuse(cat(key, " = ", value.dump(), " is absurd"));
  return value.get<int64_t>();
}

// A manifest must not make us read outside its folder.
std::string safe_path(const std::string& file) {
  const std::filesystem::path path(file);
  bool leaves = path.is_absolute();
  for (const auto& part : path) leaves = leaves || part == "..";
  if (leaves || file.empty()) refuse(cat("shard file '", file, "' is outside the data set"));
  return file;
}

void check_total(const json& object, const char* key, int64_t sum) {
  if (object.at(key) != sum) refuse(cat(key, " = ", object.at(key).dump(), ", but its shards sum to ", sum));
}

SplitEntry split_from(const json& object) {
  SplitEntry split;
  const json& shards = object.at("shards");
  if (!shards.is_array() || shards.size() > kMostShards) refuse("'shards' is no list, or an absurd one");
  for (const json& s : shards) {
    split.shards.push_back({safe_path(s.at("file")), count_of(s, "tokens"), count_of(s, "documents"),
                            count_of(s, "bytes"), s.at("checksum")});
  }
  check_total(object, "tokens", split.tokens());
  check_total(object, "documents", split.documents());
  check_total(object, "bytes", split.bytes());
  return split;
}

json to_json(const SplitEntry& split) {
  json shards = json::array();
  for (const ShardEntry& s : split.shards) {
    shards.push_back({{"file", s.file},
                      {"tokens", s.tokens},
                      {"documents", s.documents},
                      {"bytes", s.bytes},
                      {"checksum", s.checksum}});
  }
  return {{"tokens", split.tokens()},
          {"documents", split.documents()},
          {"bytes", split.bytes()},
          {"shards", shards}};
}

template <typename Member>
int64_t total(const std::vector<ShardEntry>& shards, Member member) {
  int64_t sum = 0;
  for (const ShardEntry& s : shards) sum += s.*member;
  return sum;
}

}  // namespace

int64_t SplitEntry::tokens() const {
  return total(shards, &ShardEntry::tokens);
}
int64_t SplitEntry::documents() const {
  return total(shards, &ShardEntry::documents);
}
int64_t SplitEntry::bytes() const {
  return total(shards, &ShardEntry::bytes);
}

Manifest read_manifest(const std::string& dataset_dir) {
  const std::string path = dataset_dir + "/" + kManifestName;
  const json root = json::parse(read_file(path, "data set manifest"), nullptr, /*allow_exceptions=*/false);
  require<DataError>(
      root.is_object() && root.value("format", json()) == kDatasetFormat, path,
      " is no manifest of an fwl data set (damaged, or something else). Make the data set again.");
  require<DataError>(root.value("version", json()) == kDatasetVersion, path, ": format version ",
                     root.value("version", json()).dump(), " is unknown (this program reads version ",
                     kDatasetVersion, "). Use the fwl that wrote it.");
  Manifest manifest;
  try {
    manifest.tokenizer_kind = root.at("tokenizer").at("kind");
    manifest.tokenizer_hash = root.at("tokenizer").at("hash");
    manifest.vocab_size = count_of(root, "vocab_size");
    manifest.document_start =
        static_cast<int32_t>(std::min<int64_t>(count_of(root, "document_start"), INT32_MAX));
    for (const auto& [name, split] : root.at("splits").items()) manifest.splits[name] = split_from(split);
  } catch (const json::exception& error) {
    throw DataError(cat(path, ": ", error.what(), " (the manifest is damaged). Make the data set again."));
  }
  require<DataError>(manifest.vocab_size > 0 && manifest.vocab_size <= (int64_t{1} << 31) &&
                         manifest.document_start < manifest.vocab_size,
                     path, ": vocab_size ", manifest.vocab_size, " and document_start ",
                     manifest.document_start, " contradict each other. Make the data set again.");
  return manifest;
}

void write_manifest(const std::string& dataset_dir, const Manifest& m) {
  json root = {{"format", kDatasetFormat},
               {"version", kDatasetVersion},
               {"vocab_size", m.vocab_size},
               {"document_start", m.document_start}};
  root["tokenizer"] = {{"kind", m.tokenizer_kind},
                       {"hash", m.tokenizer_hash},
                       {"file", m.tokenizer_kind == "byte" ? json() : json(kTokenizerName)}};
  root["splits"] = json::object();
  for (const auto& [name, split] : m.splits) root["splits"][name] = to_json(split);
  publish_file(dataset_dir + "/" + kManifestName, root.dump(1) + "\n");
}

std::string to_hex(uint64_t value) {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(value));
  return text;
}

uint64_t hash_tokens(const uint32_t* tokens, int64_t count, uint64_t hash) {
  for (int64_t i = 0; i < count; ++i) {
    for (int shift = 0; shift < 32; shift += 8)
      hash = (hash ^ ((tokens[i] >> shift) & 0xFF)) * 0x100000001B3ull;
  }
  return hash;
}

}  // namespace fwl
