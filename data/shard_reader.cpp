#include "data/shard_reader.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <mutex>
#include <set>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/hash.h"

namespace fwl {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kRowsAtOnce = 1 << 16;

}  // namespace

ShardReader::ShardReader(const std::string& dataset_dir, const ShardEntry& entry, const Manifest& manifest)
    : path_(dataset_dir + "/" + entry.file),
      file_(Hdf5File::open(path_, "shard")),
      entry_(entry),
      vocab_size_(manifest.vocab_size) {
  check_attributes(manifest);
  check_tokens();
  if (leads_outside(dataset_dir, entry.file)) prove_tokens();
}

void ShardReader::check_attributes(const Manifest& manifest) const {
  require<DataError>(file_->has_attribute("format") && file_->string_attribute("format") == kShardFormat,
                     path_, " is no shard of an fwl data set. Make the data set again.");
  const int64_t version = file_->integer_attribute("version");
  require<DataError>(version >= kOldestDatasetVersion && version <= kShardVersion, path_, ": shard version ",
                     version, " is unknown (this program reads versions ", kOldestDatasetVersion, " to ",
                     kShardVersion, "). Use the fwl that wrote it.");
  const int64_t vocab_size = file_->integer_attribute("vocab_size");
  const std::string hash = file_->string_attribute("tokenizer_hash");
  require<DataError>(vocab_size == manifest.vocab_size && hash == manifest.tokenizer_hash, path_,
                     ": made with tokenizer ", hash, " of ", vocab_size, " tokens, the manifest says ",
                     manifest.tokenizer_hash, " of ", manifest.vocab_size,
                     " (its tokens mean other text). Make the data set again.");
  if (version < 2) return;
  const std::string checksum = file_->string_attribute("checksum");
  require<DataError>(checksum == entry_.checksum, path_, ": attribute 'checksum' is ", checksum,
                     ", the manifest says ", entry_.checksum,
                     " (the shard was swapped with another). Make the data set again.");
}

void ShardReader::check_tokens() {
  const std::vector<int64_t> shape = file_->shape("tokens");
  require<DataError>(shape.size() == 1 && shape[0] == entry_.tokens, path_, ": dataset 'tokens' has ",
                     shape.size(), " dims and ", shape.empty() ? 0 : shape[0], " rows, the manifest says ",
                     entry_.tokens, " tokens (the shard was swapped or cut). Make the data set again.");
  const std::string type = file_->element_type("tokens");
  require<DataError>(type == "uint16" || type == "uint32", path_, ": dataset 'tokens' is ", type,
                     ", not uint16 or uint32. Make the data set again.");
  narrow_ = type == "uint16";
}

// What lies outside the data set may be changed by whoever does not know of it.
void ShardReader::prove_tokens() const {
  static std::mutex mutex;
  static std::set<std::string> proven;  // file, as it is now, and checksum
  const fs::path target = fs::canonical(path_);
  const std::string content =
      cat(target.string(), ' ', fs::file_size(target), ' ',
          fs::last_write_time(target).time_since_epoch().count(), ' ', entry_.checksum);
  {
    const std::lock_guard lock(mutex);
    if (proven.count(content) > 0) return;
  }
  uint64_t hash = kTokenHashSeed;
  std::vector<uint32_t> part;
  for (int64_t first = 0; first < entry_.tokens; first += kRowsAtOnce) {
    part.resize(static_cast<size_t>(std::min(kRowsAtOnce, entry_.tokens - first)));
    file_->read_rows("tokens", first, static_cast<int64_t>(part.size()), part.data());
    hash = hash_tokens(part.data(), static_cast<int64_t>(part.size()), hash);
  }
  require_checksum(hash);
  const std::lock_guard lock(mutex);
  proven.insert(content);
}

void ShardReader::require_checksum(uint64_t hash) const {
  const std::string checksum = to_hex(mix_bits(hash));
  require<DataError>(checksum == entry_.checksum, path_, ": dataset 'tokens' has checksum ", checksum,
                     ", the manifest says ", entry_.checksum,
                     " (the shard was damaged or swapped). Make the data set again.");
}

std::vector<Document> ShardReader::documents() const {
  const auto offsets = file_->read<int64_t>("documents/offsets");
  const auto bytes = file_->read<int64_t>("documents/bytes");
  const auto names = file_->read_strings("documents/names");
  const auto count = static_cast<size_t>(entry_.documents);
  require<DataError>(offsets.size() == count + 1 && bytes.size() == count && names.size() == count, path_,
                     ": datasets 'documents/offsets', 'bytes' and 'names' hold ", offsets.size(), ", ",
                     bytes.size(), " and ", names.size(), " entries for ", count,
                     " documents. Make the data set again.");
  require<DataError>(offsets.front() == 0 && offsets.back() == entry_.tokens, path_,
                     ": dataset 'documents/offsets' runs from ", offsets.front(), " to ", offsets.back(),
                     ", not 0 to ", entry_.tokens, ". Make the data set again.");
  std::vector<Document> documents;
  documents.reserve(count);
  int64_t total_bytes = 0;
  for (size_t i = 0; i < count; ++i) {
    require<DataError>(offsets[i] < offsets[i + 1] && offsets[i + 1] <= entry_.tokens, path_,
                       ": dataset 'documents/offsets', offset ", i, ": ", offsets[i], " is followed by ",
                       offsets[i + 1], " (must ascend). Make the data set again.");
    require<DataError>(bytes[i] >= 0 && bytes[i] <= entry_.bytes - total_bytes, path_,
                       ": dataset 'documents/bytes', offset ", i, ": ", bytes[i],
                       " bytes do not fit the manifest's ", entry_.bytes, ". Make the data set again.");
    total_bytes += bytes[i];
    documents.push_back({names[i], offsets[i], offsets[i + 1] - offsets[i], bytes[i]});
  }
  require<DataError>(total_bytes == entry_.bytes, path_, ": dataset 'documents/bytes' sums to ", total_bytes,
                     ", the manifest says ", entry_.bytes, ". Make the data set again.");
  return documents;
}

std::pair<int64_t, int64_t> ShardReader::document_range(int64_t index) const {
  require<InternalError>(index >= 0 && index < entry_.documents, "document ", index, " of ",
                         entry_.documents);
  std::array<int64_t, 2> range{};
  if (!file_) {
    std::copy_n(loaded_offsets_.begin() + index, 2, range.begin());
  } else {
    file_->read_rows("documents/offsets", index, 2, range.data());
  }
  require<DataError>(range[0] >= 0 && range[0] < range[1] && range[1] <= entry_.tokens, path_,
                     ": dataset 'documents/offsets', offset ", index, ": ", range[0], " is followed by ",
                     range[1], " of ", entry_.tokens, " tokens (must ascend). Make the data set again.");
  return {range[0], range[1]};
}

void ShardReader::widen(const auto* tokens, int64_t first, int64_t count, int64_t* out) const {
  int64_t largest = 0;
  for (int64_t i = 0; i < count; ++i) {
    out[i] = tokens[i];
    largest = std::max(largest, out[i]);
  }
  if (largest < vocab_size_) return;
  const int64_t bad = std::find_if(out, out + count, [&](int64_t t) { return t >= vocab_size_; }) - out;
  throw DataError(cat(path_, ": dataset 'tokens', offset ", first + bad, ": token ", out[bad],
                      " is outside the vocabulary of ", vocab_size_,
                      " (damaged, or made with another tokenizer). Make the data set again."));
}

void ShardReader::read(int64_t first, int64_t count, int64_t* out) const {
  require<InternalError>(first >= 0 && count >= 0 && first <= entry_.tokens - count, "tokens ", first, " to ",
                         first + count, " of ", entry_.tokens, " were asked for");
  if (!file_) {
    widen(loaded_.data() + first, first, count, out);
  } else if (narrow_) {
    // Read as stored: HDF5's own conversion to 64 bits takes longer than the read.
    narrow_buffer_.resize(static_cast<size_t>(count));
    file_->read_rows("tokens", first, count, narrow_buffer_.data());
    widen(narrow_buffer_.data(), first, count, out);
  } else {
    wide_buffer_.resize(static_cast<size_t>(count));
    file_->read_rows("tokens", first, count, wide_buffer_.data());
    widen(wide_buffer_.data(), first, count, out);
  }
}

void ShardReader::load() {
  loaded_ = file_->read<uint32_t>("tokens");
  require_checksum(hash_tokens(loaded_.data(), static_cast<int64_t>(loaded_.size()), kTokenHashSeed));
  loaded_offsets_ = file_->read<int64_t>("documents/offsets");
  file_.reset();
}

}  // namespace fwl
