#include "data/shard_writer.h"

#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <numeric>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/hash.h"
#include "core/base/hdf5.h"

namespace fwl {
namespace {

constexpr Hdf5Layout kTokenLayout{1 << 14, 4, true};
constexpr Hdf5Layout kIndexLayout{1 << 14, 4, true};

void write_tokens(Hdf5File& file, const std::vector<uint32_t>& tokens, int64_t vocab_size) {
  const std::vector<int64_t> shape = {static_cast<int64_t>(tokens.size())};
  if (vocab_size > 65536) {
    file.write("tokens", shape, tokens.data(), kTokenLayout);
  } else {
    const std::vector<uint16_t> narrow(tokens.begin(), tokens.end());
    file.write("tokens", shape, narrow.data(), kTokenLayout);
  }
}

}  // namespace

ShardWriter::ShardWriter(std::string dataset_dir, std::string split, const Manifest& manifest,
                         int64_t shard_tokens)
    : dataset_dir_(std::move(dataset_dir)),
      split_(std::move(split)),
      tokenizer_hash_(manifest.tokenizer_hash),
      vocab_size_(manifest.vocab_size),
      shard_tokens_(shard_tokens) {}

void ShardWriter::append(TokenizedDocument document) {
  tokens_.insert(tokens_.end(), document.tokens.begin(), document.tokens.end());
  offsets_.push_back(static_cast<int64_t>(tokens_.size()));
  bytes_.push_back(document.bytes);
  names_.push_back(std::move(document.name));
  if (static_cast<int64_t>(tokens_.size()) >= shard_tokens_) publish();
}

SplitEntry ShardWriter::finish() {
  if (!names_.empty()) publish();
  return entry_;
}

void ShardWriter::publish() {
  namespace fs = std::filesystem;
  char number[32];
  std::snprintf(number, sizeof number, "shard-%05zu.h5", entry_.shards.size());
  const std::string file_name = split_ + "/" + number;
  const std::string path = dataset_dir_ + "/" + file_name;
  const std::string temporary = cat(path, ".tmp-", ::getpid());
  try {
    fs::create_directories(fs::path(path).parent_path());
    Hdf5File file = Hdf5File::create(temporary);
    file.set_attribute("format", std::string(kShardFormat));
    file.set_attribute("version", kDatasetVersion);
    file.set_attribute("vocab_size", vocab_size_);
    file.set_attribute("tokenizer_hash", tokenizer_hash_);
    write_tokens(file, tokens_, vocab_size_);
    file.write("documents/offsets", {static_cast<int64_t>(offsets_.size())}, offsets_.data(), kIndexLayout);
    file.write("documents/bytes", {static_cast<int64_t>(bytes_.size())}, bytes_.data(), kIndexLayout);
    file.write_strings("documents/names", names_, kIndexLayout);
    file.close();
    fs::rename(temporary, path);
    sync_path(fs::path(path).parent_path().string());
  } catch (const fs::filesystem_error& error) {
    std::error_code ignored;
    fs::remove(temporary, ignored);
    throw DataError(cat("shard '", path, "' could not be written: ", error.what(),
                        ". Free space or check the folder's permissions."));
  } catch (...) {
    std::error_code ignored;
    fs::remove(temporary, ignored);
    throw;
  }
  entry_.shards.push_back(
      {file_name, static_cast<int64_t>(tokens_.size()), static_cast<int64_t>(names_.size()),
       std::accumulate(bytes_.begin(), bytes_.end(), int64_t{0}),
       to_hex(mix_bits(hash_tokens(tokens_.data(), static_cast<int64_t>(tokens_.size()), kTokenHashSeed)))});
  tokens_.clear();
  offsets_ = {0};
  bytes_.clear();
  names_.clear();
}

}  // namespace fwl
