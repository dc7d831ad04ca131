#include "data/shard_writer.h"

#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <numeric>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/hash.h"

namespace fwl {
namespace {

namespace fs = std::filesystem;

// A window of some thousand tokens at a random place needs one or two chunks.
constexpr int64_t kTokenChunk = 2048;
constexpr int64_t kIndexChunk = 1 << 14;
// Tokens are handed to HDF5 in blocks of whole chunks.
constexpr size_t kBlock = 32 * kTokenChunk;

Hdf5Layout layout_of(Compression compression, int64_t chunk) {
  return {chunk, compression == Compression::kDeflate ? 4 : 0, true, compression == Compression::kZstd};
}

}  // namespace

ShardWriter::ShardWriter(std::string dataset_dir, std::string split, const Manifest& manifest,
                         int64_t shard_tokens, std::string tag, SplitEntry published)
    : dataset_dir_(std::move(dataset_dir)),
      split_(std::move(split)),
      tag_(std::move(tag)),
      tokenizer_hash_(manifest.tokenizer_hash),
      vocab_size_(manifest.vocab_size),
      shard_tokens_(shard_tokens),
      compression_(manifest.compression),
      entry_(std::move(published)) {}

ShardWriter::~ShardWriter() {
  discard();
}

void ShardWriter::discard() noexcept {
  if (!file_) return;
  std::error_code ignored;
  fs::remove(file_->path(), ignored);
  file_.reset();
}

void ShardWriter::open() {
  std::error_code error;
  const fs::path folder = fs::path(dataset_dir_) / split_;
  fs::create_directories(folder, error);
  require<DataError>(!error, "folder '", folder.string(), "' cannot be made: ", error.message(),
                     ". Check its permissions.");
  file_ = Hdf5File::create(cat(folder.string(), "/shard-", tag_, "open.tmp-", ::getpid()));
  file_->set_attribute("format", std::string(kShardFormat));
  file_->set_attribute("version", kShardVersion);
  file_->set_attribute("vocab_size", vocab_size_);
  file_->set_attribute("tokenizer_hash", tokenizer_hash_);
  if (vocab_size_ > 65536) {
    file_->create_growing<uint32_t>("tokens", layout_of(compression_, kTokenChunk));
  } else {
    file_->create_growing<uint16_t>("tokens", layout_of(compression_, kTokenChunk));
  }
}

// Writes the first `count` pending tokens.
void ShardWriter::flush(size_t count) {
  const auto rows = static_cast<int64_t>(count);
  hash_ = hash_tokens(pending_.data(), rows, hash_);
  if (vocab_size_ > 65536) {
    file_->append("tokens", pending_.data(), rows);
  } else {
    const std::vector<uint16_t> narrow(pending_.begin(), pending_.begin() + rows);
    file_->append("tokens", narrow.data(), rows);
  }
  pending_.erase(pending_.begin(), pending_.begin() + rows);
}

void ShardWriter::begin_document(const std::string& name) {
  try {
    if (!file_) open();
  } catch (...) {
    discard();
    throw;
  }
  names_.push_back(name);
  bytes_.push_back(0);
}

void ShardWriter::extend(const int32_t* tokens, int64_t count, int64_t bytes, int64_t invalid_utf8) {
  pending_.insert(pending_.end(), tokens, tokens + count);
  tokens_ += count;
  bytes_.back() += bytes;
  invalid_utf8_ += invalid_utf8;
  try {
    if (pending_.size() >= kBlock) flush(pending_.size() / kBlock * kBlock);
  } catch (...) {
    discard();
    throw;
  }
}

void ShardWriter::end_document() {
  offsets_.push_back(tokens_);
  if (tokens_ >= shard_tokens_) publish();
}

void ShardWriter::append(const TokenizedDocument& document) {
  begin_document(document.name);
  extend(document.tokens.data(), static_cast<int64_t>(document.tokens.size()), document.bytes, 0);
  end_document();
}

SplitEntry ShardWriter::finish() {
  if (!names_.empty()) publish();
  return entry_;
}

void ShardWriter::publish() {
  char number[32];
  std::snprintf(number, sizeof number, "%05zu.h5", entry_.shards.size());
  const std::string file_name = cat(split_, "/shard-", tag_, number);
  const std::string path = dataset_dir_ + "/" + file_name;
  std::string checksum;
  try {
    flush(pending_.size());
    checksum = to_hex(mix_bits(hash_));
    const Hdf5Layout layout = layout_of(compression_, kIndexChunk);
    file_->set_attribute("checksum", checksum);
    file_->write("documents/offsets", {static_cast<int64_t>(offsets_.size())}, offsets_.data(), layout);
    file_->write("documents/bytes", {static_cast<int64_t>(bytes_.size())}, bytes_.data(), layout);
    file_->write_strings("documents/names", names_, layout);
    file_->close();
    std::error_code error;
    fs::rename(file_->path(), path, error);
    require<DataError>(!error, "shard '", path, "' could not be published: ", error.message(),
                       ". Free space or check the folder's permissions.");
    sync_path(fs::path(path).parent_path().string());
  } catch (...) {
    discard();
    throw;
  }
  file_.reset();
  entry_.shards.push_back({file_name, tokens_, static_cast<int64_t>(names_.size()),
                           std::accumulate(bytes_.begin(), bytes_.end(), int64_t{0}), checksum,
                           invalid_utf8_});
  hash_ = kTokenHashSeed;
  tokens_ = invalid_utf8_ = 0;
  offsets_ = {0};
  bytes_.clear();
  names_.clear();
}

}  // namespace fwl
