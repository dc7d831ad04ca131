#include "data/dataset.h"

#include <algorithm>
#include <filesystem>

#include "core/base/error.h"
#include "data/dataset_tokenizer.h"

namespace fwl {
namespace {

namespace fs = std::filesystem;

constexpr size_t kReaders =
    256;  // windows come from all shards at random; how many have open files is another matter
constexpr size_t kIndexesInMemory = 4;

// Without "." and a slash at its end; with ".." in it, where the system goes.
std::string without_dots(const fs::path& path) {
  const bool goes_up = std::find(path.begin(), path.end(), "..") != path.end();
  fs::path folder = goes_up ? fs::weakly_canonical(path) : path.lexically_normal();
  if (!folder.has_filename()) folder = folder.parent_path();
  return folder.string();
}

}  // namespace

Split::Split(const std::string& path, int64_t tokens_in_memory) : tokens_in_memory_(tokens_in_memory) {
  locate(path);
  for (const ShardEntry& shard : entry().shards) {
    first_token_of_shard_.push_back(num_tokens_);
    first_document_of_shard_.push_back(num_documents_);
    num_tokens_ += shard.tokens;
    num_documents_ += shard.documents;
  }
  is_checked_.resize(entry().shards.size(), false);
}

std::optional<SplitPlace> find_split(const std::string& path) {
  const fs::path given = fs::absolute(path);
  if (fs::exists(given / kManifestName)) return SplitPlace{without_dots(given), ""};
  std::optional<SplitPlace> found;
  for (const fs::path& folder : {fs::path(without_dots(given)), fs::weakly_canonical(given)}) {
    const SplitPlace place{folder.parent_path().string(), folder.filename().string()};
    if (!fs::exists(folder.parent_path() / kManifestName)) continue;
    if (read_manifest(place.dataset_dir).splits.count(place.split) > 0) return place;
    if (!found) found = place;
  }
  return found;
}

void Split::locate(const std::string& path) {
  require<DataError>(fs::is_directory(path), "data set '", path,
                     "' does not exist. Make one with `fwl tokenize`.");
  const std::optional<SplitPlace> place = find_split(path);
  require<DataError>(place.has_value(), "'", path, "' has no ", kManifestName,
                     " and is no split of a data set (nothing says what it holds; a data set without it is "
                     "unfinished). Make one with `fwl tokenize`.");
  dataset_dir_ = place->dataset_dir;
  name_ = place->split.empty() ? "train" : place->split;
  manifest_ = read_manifest(dataset_dir_);
  std::string names;
  for (const auto& [name, split] : manifest_.splits) names += (names.empty() ? "" : ", ") + name;
  require<DataError>(manifest_.splits.count(name_) > 0, dataset_dir_, "/", kManifestName, " names no split '",
                     name_, "'. It has: ", names, ".");
}

const std::vector<Document>& Split::documents_of(size_t shard) const {
  const auto found =
      std::find_if(indexes_.begin(), indexes_.end(), [&](const auto& item) { return item.first == shard; });
  if (found != indexes_.end()) {
    indexes_.splice(indexes_.begin(), indexes_, found);
    return indexes_.front().second;
  }
  // A reader of its own: one that has loaded its tokens has closed its file.
  std::vector<Document> documents = ShardReader(dataset_dir_, entry().shards[shard], manifest_).documents();
  for (Document& document : documents) document.first_token += first_token_of_shard_[shard];
  if (indexes_.size() >= kIndexesInMemory) indexes_.pop_back();
  indexes_.emplace_front(shard, std::move(documents));
  return indexes_.front().second;
}

size_t Split::shard_of_document(int64_t index) const {
  require<InternalError>(index >= 0 && index < num_documents_, "document ", index, " of ", num_documents_);
  const auto after =
      std::upper_bound(first_document_of_shard_.begin(), first_document_of_shard_.end(), index);
  return static_cast<size_t>(after - first_document_of_shard_.begin() - 1);
}

std::pair<int64_t, int64_t> Split::document_range(int64_t index) const {
  const size_t shard = shard_of_document(index);
  const auto [first, end] = reader(shard).document_range(index - first_document_of_shard_[shard]);
  return {first_token_of_shard_[shard] + first, first_token_of_shard_[shard] + end};
}

Split::ShardRange Split::shard_of(int64_t index) const {
  const size_t shard = shard_of_document(index);
  const ShardEntry& held = entry().shards[shard];
  const int64_t document = first_document_of_shard_[shard], token = first_token_of_shard_[shard];
  return {document, document + held.documents, token, token + held.tokens};
}

Document Split::document(int64_t index) const {
  const size_t shard = shard_of_document(index);
  return documents_of(shard)[static_cast<size_t>(index - first_document_of_shard_[shard])];
}

size_t Split::shard_of_token(int64_t position) const {
  const auto after = std::upper_bound(first_token_of_shard_.begin(), first_token_of_shard_.end(), position);
  return static_cast<size_t>(after - first_token_of_shard_.begin() - 1);
}

int64_t Split::document_of(int64_t position) const {
  require<InternalError>(position >= 0 && position < num_tokens_, "token ", position, " of ", num_tokens_);
  const size_t shard = shard_of_token(position);
  const std::vector<Document>& documents = documents_of(shard);
  const auto after = std::upper_bound(documents.begin(), documents.end(), position,
                                      [](int64_t p, const Document& d) { return p < d.first_token; });
  return first_document_of_shard_[shard] + (after - documents.begin()) - 1;
}

const Tokenizer& Split::tokenizer() const {
  if (!tokenizer_) tokenizer_ = dataset_tokenizer(dataset_dir_, manifest_);
  return *tokenizer_;
}

const ShardReader& Split::reader(size_t shard) const {
  const auto found =
      std::find_if(readers_.begin(), readers_.end(), [&](const auto& item) { return item.first == shard; });
  if (found != readers_.end()) {
    readers_.splice(readers_.begin(), readers_, found);
    return readers_.front().second;
  }
  const bool keep_all = num_tokens_ <= tokens_in_memory_;
  ShardReader fresh(dataset_dir_, entry().shards[shard], manifest_);
  if (!is_checked_[shard]) fresh.documents();
  is_checked_[shard] = true;
  if (keep_all) fresh.load();
  if (!keep_all && readers_.size() >= kReaders) readers_.pop_back();
  readers_.emplace_front(shard, std::move(fresh));
  return readers_.front().second;
}

Split::Extent Split::examine(int64_t position) const {
  const size_t shard = shard_of_token(position);
  const ShardEntry& held = entry().shards[shard];
  const int64_t first = first_token_of_shard_[shard];
  Extent extent{held.file, first, first + held.tokens, held.documents, false};
  try {
    const Document found = document(document_of(position));
    extent = {found.name, found.first_token, found.first_token + found.num_tokens, 1, false};
    std::vector<int64_t> tokens(size_t{1} << 16);
    for (int64_t at = extent.first_token; at < extent.end_token; at += static_cast<int64_t>(tokens.size()))
      read_tokens(at, std::min<int64_t>(static_cast<int64_t>(tokens.size()), extent.end_token - at),
                  tokens.data());
    extent.is_sound = true;
  } catch (const DataError&) {
  }
  return extent;
}

void Split::read_tokens(int64_t first, int64_t count, int64_t* out) const {
  require<InternalError>(first >= 0 && count >= 0 && first <= num_tokens_ - count, "tokens ", first, " to ",
                         first + count, " of ", num_tokens_, " were asked for");
  if (count == 0) return;
  for (size_t shard = shard_of_token(first); count > 0; ++shard) {
    const int64_t inside = first - first_token_of_shard_[shard];
    const int64_t part = std::min(count, entry().shards[shard].tokens - inside);
    if (part > 0) reader(shard).read(inside, part, out);
    first += part;
    out += part;
    count -= part;
  }
}

}  // namespace fwl
