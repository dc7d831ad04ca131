#include "launch/named_split.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>

#include "core/base/error.h"
#include "core/base/hash.h"
#include "launch/batch_feed.h"
#include "launch/data_inspection.h"

namespace fwl {
namespace {

namespace fs = std::filesystem;

std::string list_of_splits(const Manifest& manifest, const std::string& folder) {
  std::string list;
  for (const auto& [name, split] : manifest.splits)
    list += cat(list.empty() ? "" : ", ", folder, "/", name, " (", split.tokens(), " tokens)");
  return list;
}

std::string without_slashes(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

// The sequence of samples that a training of this config on this one split would read.
bool reads_like(const RunConfig& config, uint64_t sequence_hash, const Split& split) {
  try {
    const Loader loader(split, config.model.context, static_cast<uint64_t>(config.train.seed),
                        config.train.stream ? config.train.global_batch : 0, BadData::kStop,
                        config.data.order == "documents" ? StreamOrder::kDocuments : StreamOrder::kPacked);
    return loader.sequence_hash() == sequence_hash;
  } catch (const Error&) {
    return false;  // too short for a window: nothing was trained on it
  }
}

}  // namespace

TokenizerIdentity identity_of(const Split& split) {
  return {split.manifest().tokenizer_kind, split.manifest().tokenizer_hash};
}

TokenizerIdentity identity_of(const Tokenizer& tokenizer) {
  return {tokenizer.kind(), to_hex(tokenizer.hash())};
}

std::string to_string(const TokenizerIdentity& identity) {
  return cat(identity.kind, " ", identity.hash);
}

nlohmann::json to_json(const TokenizerIdentity& identity) {
  return {{"kind", identity.kind}, {"hash", identity.hash}};
}

Split open_split(const std::string& option, const std::string& path) {
  if (is_dataset_folder(path)) {
    const Manifest manifest = read_manifest(path);
    throw ConfigError(cat(option, " '", path,
                          "' is a whole data set (a model is measured on one split of it). "
                          "Name one: ",
                          list_of_splits(manifest, without_slashes(path)), "."));
  }
  return Split(path);
}

Split open_beside(const Split& split, const std::string& name) {
  return Split(split.path() + "/" + name);
}

bool has_text_beside(const Split& split, const std::string& name) {
  const auto found = split.manifest().splits.find(name);
  std::error_code ignored;
  return found != split.manifest().splits.end() && found->second.documents() > 0 &&
         fs::is_directory(split.path() + "/" + name, ignored);
}

void require_tokenizer(const std::string& option, const Split& split, const TokenizerIdentity& tokenizer,
                       const std::string& model) {
  const TokenizerIdentity own = identity_of(split);
  require<DataError>(
      own == tokenizer, option, " ", split.path(), "/", split.name(),
      ": its tokens are of another tokenizer (", to_string(own), ") than those of ", model, " (",
      to_string(tokenizer),
      "), so that they mean other text. Give a data set that was made with the model's tokenizer.");
}

void require_text(const std::string& option, const Split& split) {
  if (split.num_tokens() > split.num_documents()) return;
  throw DataError(
      cat(option, " ", split.path(), "/", split.name(), " holds no token to predict (", split.num_documents(),
          " documents, ", split.num_tokens(),
          " tokens). Give another split; there are: ", list_of_splits(split.manifest(), split.path()), "."));
}

std::string content_hash(const Split& split) {
  std::string text = split.manifest().tokenizer_hash;
  for (const ShardEntry& shard : split.manifest().splits.at(split.name()).shards)
    text += cat(' ', shard.documents, ' ', shard.tokens, ' ', shard.checksum);
  return to_hex(hash_bytes(text));
}

bool same_text(const Split& a, const Split& b) {
  return a.num_tokens() > 0 && content_hash(a) == content_hash(b);
}

bool was_trained_on(const RunConfig& config, const CheckpointInfo& info, const Split& split) {
  if (info.progress.samples == 0) return false;  // imported, not trained
  if (config.data.mixture.empty()) return reads_like(config, info.data.sequence_hash, split);
  try {
    const TrainingData data(config);
    const auto& parts = data.splits();
    return std::any_of(parts.begin(), parts.end(), [&](const auto& part) { return same_text(*part, split); });
  } catch (const Error&) {
    return false;  // its data sets lie elsewhere now
  }
}

}  // namespace fwl
