#include "launch/data_inspection.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>

#include "core/base/error.h"
#include "core/base/hdf5.h"
#include "data/dataset.h"
#include "data/tokenizer.h"

namespace fwl {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// False too where it cannot be looked at.
bool holds(const fs::path& folder, const char* name) {
  std::error_code error;
  return fs::exists(folder / name, error);
}

json describe_split(const SplitEntry& split) {
  return {{"documents", split.documents()},
          {"tokens", split.tokens()},
          {"bytes", split.bytes()},
          {"bytes_per_token",
           static_cast<double>(split.bytes()) / static_cast<double>(std::max<int64_t>(1, split.tokens()))},
          {"shards", split.shards.size()}};
}

}  // namespace

std::string dataset_folder(const std::string& path) {
  const std::optional<SplitPlace> place = find_split(path);
  if (place) return place->dataset_dir;
  const fs::path clean = fs::absolute(path).lexically_normal();
  return (clean.has_filename() ? clean : clean.parent_path()).string();
}

bool is_checkpoint_folder(const std::string& folder) {
  return holds(folder, kManifestName) &&
         (holds(folder, "rank-00000.h5") || fs::path(folder).filename().string().starts_with("step-"));
}
bool is_dataset_folder(const std::string& folder) {
  return holds(folder, kManifestName) && !is_checkpoint_folder(folder);
}
bool looks_like_dataset(const std::string& path) {
  return fs::is_directory(path) && is_dataset_folder(dataset_folder(path));
}
bool looks_like_shard(const std::string& path) {
  return fs::is_regular_file(path) && (path.ends_with(".h5") || path.ends_with(".hdf5"));
}
bool looks_like_tokenizer(const std::string& path) {
  return fs::is_regular_file(path) && path.ends_with(".model");
}

json describe_dataset(const std::string& path) {
  const std::string folder = dataset_folder(path);
  const Manifest manifest = read_manifest(folder);
  json description = {{"kind", "data set"},
                      {"path", folder},
                      {"tokenizer", manifest.tokenizer_kind},
                      {"tokenizer_hash", manifest.tokenizer_hash},
                      {"vocab_size", manifest.vocab_size},
                      {"document_start", manifest.document_start}};
  for (const auto& [name, split] : manifest.splits) {
    Split(folder + "/" + name).tokenizer();  // checks that it is the data set's
    for (const ShardEntry& shard : split.shards) ShardReader(folder, shard, manifest).documents();
    description["splits"][name] = describe_split(split);
  }
  return description;
}

json describe_shard(const std::string& path) {
  const Hdf5File file = Hdf5File::open(path, "shard");
  json description = {{"kind", "HDF5 file"}, {"path", path}, {"bytes", fs::file_size(path)}};
  if (file.has_attribute("format") && file.string_attribute("format") == kShardFormat) {
    description["kind"] = "shard";
    description["version"] = file.integer_attribute("version");
    description["vocab_size"] = file.integer_attribute("vocab_size");
    description["tokenizer_hash"] = file.string_attribute("tokenizer_hash");
    const auto bytes = file.read<int64_t>("documents/bytes");
    description["documents"] = bytes.size();
    description["document_bytes"] = std::accumulate(bytes.begin(), bytes.end(), int64_t{0});
  }
  for (const std::string& name : file.datasets())
    description["datasets"][name] = {{"type", file.element_type(name)}, {"shape", file.shape(name)}};
  return description;
}

json describe_tokenizer(const std::string& path) {
  const auto tokenizer = open_tokenizer(path);
  return {{"kind", "tokenizer"},
          {"path", path},
          {"type", tokenizer->kind()},
          {"vocab_size", tokenizer->vocab_size()},
          {"document_start", tokenizer->document_start()},
          {"hash", to_hex(tokenizer->hash())}};
}

}  // namespace fwl
