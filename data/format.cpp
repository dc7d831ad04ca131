#include "data/format.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/hdf5.h"
#include "core/base/json.h"
#include "data/base64.h"
#include "data/dataset_folder.h"

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
  return whole_number(object.at(key), 0, kMostInShard);
}

// A manifest must not make us read outside its folder.
std::string safe_path(const std::string& file) {
  const std::filesystem::path path(file);
  bool leaves = path.is_absolute();
  for (const auto& part : path) leaves = leaves || part == "..";
  if (leaves || file.empty() || file.find('\0') != std::string::npos)
    refuse(cat("shard file '", file, "' is outside the data set"));
  return file;
}

// A split's name is a folder's.
std::string safe_name(const std::string& name) {
  if (name.empty() || name == "." || name == ".." ||
      name.find_first_of(std::string("/\0", 2)) != std::string::npos)
    refuse(cat("split '", name, "' is no name of a folder"));
  return name;
}

void check_total(const json& object, const char* key, int64_t sum) {
  if (object.at(key) != sum) refuse(cat(key, " = ", object.at(key).dump(), ", but its shards sum to ", sum));
}

ShardEntry shard_from(const json& s) {
  return {safe_path(s.at("file")),  count_of(s, "tokens"),
          count_of(s, "documents"), count_of(s, "bytes"),
          s.at("checksum"),         s.contains("invalid_utf8") ? count_of(s, "invalid_utf8") : 0};
}

void read_tokenizer(const json& object, int64_t version, Manifest* manifest) {
  manifest->tokenizer_kind = object.at("kind");
  manifest->tokenizer_hash = object.at("hash");
  manifest->tokenizer_is_beside = version < 3 && manifest->tokenizer_kind != "byte";
  if (version < 3 || object.at("model").is_null()) return;
  const auto bytes = from_base64(object.at("model").get_ref<const std::string&>());
  if (!bytes) refuse("tokenizer.model is no base64 text");
  manifest->tokenizer_bytes = *bytes;
}

SplitEntry split_from(const json& object) {
  SplitEntry split;
  const json& shards = object.at("shards");
  if (!shards.is_array() || shards.size() > kMostShards) refuse("'shards' is no list, or an absurd one");
  for (const json& s : shards) split.shards.push_back(shard_from(s));
  check_total(object, "tokens", split.tokens());
  check_total(object, "documents", split.documents());
  check_total(object, "bytes", split.bytes());
  return split;
}

json to_json(const ShardEntry& s) {
  return {{"file", s.file},   {"tokens", s.tokens},     {"documents", s.documents},
          {"bytes", s.bytes}, {"checksum", s.checksum}, {"invalid_utf8", s.invalid_utf8}};
}

json to_json(const SplitEntry& split) {
  json shards = json::array();
  for (const ShardEntry& s : split.shards) shards.push_back(to_json(s));
  return {{"tokens", split.tokens()},
          {"documents", split.documents()},
          {"bytes", split.bytes()},
          {"invalid_utf8", split.invalid_utf8()},
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

int64_t SplitEntry::invalid_utf8() const {
  return total(shards, &ShardEntry::invalid_utf8);
}

const char* name_of(Compression compression) {
  switch (compression) {
    case Compression::kNone:
      return "none";
    case Compression::kDeflate:
      return "deflate";
    case Compression::kZstd:
      return "zstd";
  }
  throw InternalError("unknown compression");
}

Compression parse_compression(const std::string& name) {
  for (const Compression c : {Compression::kNone, Compression::kDeflate, Compression::kZstd}) {
    if (name != name_of(c)) continue;
    require<ConfigError>(
        c != Compression::kZstd || hdf5_has_zstd(),
        "compression 'zstd' needs HDF5's zstd filter (number 32015), which is not installed here. "
        "Set HDF5_PLUGIN_PATH to the folder with the plugin, or use deflate.");
    return c;
  }
  throw ConfigError(cat("compression '", name, "' does not exist. Choose among deflate, none, zstd."));
}

std::string to_json_text(const ShardEntry& shard) {
  return to_json(shard).dump();
}

ShardEntry shard_from_json_text(const std::string& text, const std::string& where) {
  try {
    return shard_from(parse_json(text));
  } catch (const json::exception& error) {
    throw DataError(cat(where, ": ", error.what(), " (damaged). Make the data set again."));
  }
}

Manifest read_manifest(const std::string& dataset_dir) {
  namespace fs = std::filesystem;
  const std::string path = dataset_dir + "/" + kManifestName;
  require<DataError>(
      fs::is_directory(dataset_dir), "data set '", dataset_dir,
      fs::exists(dataset_dir) ? "' is no folder. Give the folder that `fwl tokenize` made."
      : fs::exists(dataset_dir + kAsideEnding)
          ? "' was being replaced when that was killed: the old one lies beside it, with .replaced behind "
            "its name. Give `fwl tokenize --overwrite` again, or rename it back."
          : "' does not exist. Make one with `fwl tokenize`.");
  require<DataError>(
      fs::exists(path), "'", dataset_dir, "' has no ", kManifestName,
      fs::exists(cat(dataset_dir, "/", kJournalName, ".json"))
          ? ": the data set is unfinished (what it holds is not complete). Give the command that "
            "began it once more: it goes on."
          : " (it is no data set). Give the folder that `fwl tokenize` made.");
  const json root = parse_json(read_file(path, "data set manifest"));
  require<DataError>(
      root.is_object() && root.value("format", json()) == kDatasetFormat, path,
      " is no manifest of an fwl data set (damaged, or something else). Make the data set again.");
  const json version = root.value("version", json());
  require<DataError>(
      version.is_number_integer() && version >= kOldestDatasetVersion && version <= kDatasetVersion, path,
      ": format version ", version.dump(), " is unknown (this program reads versions ", kOldestDatasetVersion,
      " to ", kDatasetVersion, "). Use the fwl that wrote it.");
  Manifest manifest;
  try {
    read_tokenizer(root.at("tokenizer"), version, &manifest);
    manifest.vocab_size = count_of(root, "vocab_size");
    manifest.document_start =
        static_cast<int32_t>(std::min<int64_t>(count_of(root, "document_start"), INT32_MAX));
    if (root.contains("bad_lines")) manifest.bad_lines = count_of(root, "bad_lines");
    const std::string compression = root.value("compression", "deflate");
    for (const Compression c : {Compression::kNone, Compression::kZstd})
      if (compression == name_of(c)) manifest.compression = c;
    for (const auto& [name, split] : root.at("splits").items())
      manifest.splits[safe_name(name)] = split_from(split);
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
               {"compression", name_of(m.compression)},
               {"vocab_size", m.vocab_size},
               {"document_start", m.document_start}};
  root["tokenizer"] = {{"kind", m.tokenizer_kind},
                       {"hash", m.tokenizer_hash},
                       {"model", m.tokenizer_bytes.empty() ? json() : json(to_base64(m.tokenizer_bytes))}};
  if (m.bad_lines > 0) root["bad_lines"] = m.bad_lines;
  root["splits"] = json::object();
  for (const auto& [name, split] : m.splits) root["splits"][name] = to_json(split);
  publish_file(dataset_dir + "/" + kManifestName, root.dump(1) + "\n");
}

uint64_t hash_tokens(const uint32_t* tokens, int64_t count, uint64_t hash) {
  for (int64_t i = 0; i < count; ++i) {
    for (int shift = 0; shift < 32; shift += 8)
      hash = (hash ^ ((tokens[i] >> shift) & 0xFF)) * 0x100000001B3ull;
  }
  return hash;
}

}  // namespace fwl
