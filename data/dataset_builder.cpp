#include "data/dataset_builder.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/hash.h"
#include "core/base/json.h"
#include "core/base/system_error.h"
#include "data/dataset_tokenizer.h"
#include "data/encoder_pool.h"
#include "data/shard_reader.h"
#include "data/shard_writer.h"

namespace fwl {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr int64_t kBytesPerThread = 4 << 20;

std::string numbered(const char* format, size_t number) {
  char text[64];
  std::snprintf(text, sizeof text, format, number);
  return text;
}

std::vector<std::string> split_names(const std::vector<SplitRange>& ranges) {
  std::vector<std::string> names = {"train"};
  for (const SplitRange& range : ranges) {
    if (range.name != "train") names.push_back(range.name);
  }
  return names;
}

// All that decides the content of the data set.
std::string fingerprint_of(const std::vector<DocumentFile>& files, const Manifest& manifest,
                           const BuildOptions& o, int64_t group_bytes) {
  std::string text = cat(kDatasetVersion, ' ', manifest.tokenizer_kind, ' ', manifest.tokenizer_hash, ' ',
                         name_of(o.compression), ' ', o.shard_tokens, ' ', group_bytes, ' ', o.format.field,
                         '\n', o.format.document_start, '\n');
  for (const SplitRange& range : o.ranges) text += cat(range.name, '=', range.begin, '-', range.end, '\n');
  uint64_t hash = hash_bytes(text);
  for (const DocumentFile& file : files) {
    std::error_code error;
    const auto time = fs::last_write_time(file.path, error).time_since_epoch().count();
    hash = hash_bytes(cat(file.name, '\n', file.path, '\n', file.bytes, ' ', error ? 0 : time, '\n'), hash);
  }
  return to_hex(hash);
}

// Files [begin, end).
struct Group {
  size_t begin = 0, end = 0;
  int64_t bytes = 0;
};

std::vector<Group> groups_of(const std::vector<DocumentFile>& files, int64_t group_bytes) {
  std::vector<Group> groups;
  for (size_t i = 0; i < files.size(); ++i) {
    if (groups.empty() || groups.back().bytes >= group_bytes) groups.push_back({i, i, 0});
    groups.back().end = i + 1;
    groups.back().bytes += files[i].bytes;
  }
  return groups;
}

// How far a group is. Documents are numbered within the group.
struct GroupState {
  bool done = false;
  std::vector<SplitEntry> published;         // per split
  std::vector<int64_t> documents_published;  // per split: all of its documents before this number are
};

class Builder {
 public:
  Builder(const std::vector<DocumentFile>& files, const Tokenizer& tokenizer, const BuildOptions& options)
      : files_(files), tokenizer_(tokenizer), o_(options), splits_(split_names(options.ranges)) {
    embed_tokenizer(tokenizer, &manifest_);
    manifest_.compression = o_.compression;
    const int64_t group_bytes = o_.group_bytes > 0 ? o_.group_bytes : 16 * o_.shard_tokens;
    fingerprint_ = fingerprint_of(files, manifest_, o_, group_bytes);
    groups_ = groups_of(files, group_bytes);
    for (const DocumentFile& file : files) reads_stdin_ = reads_stdin_ || file.path == kStandardInput;
  }

  BuildResult run() {
    if (o_.rank == 0) lock_.emplace(o_.out);
    if (o_.rank == 0) prepare();
    // Killed after the manifest: no more than journals to remove. The first rank says so, since others may
    // still see a manifest that it has replaced (network file systems).
    if (o_.any(o_.rank == 0 && fs::exists(o_.out + "/" + kManifestName))) {
      if (o_.rank == 0) remove_journals();
      return result();
    }
    for (size_t g = first_group(); g < groups_.size(); g += step()) {
      if (!reads_stdin_) progress_.source_total += groups_[g].bytes;
    }
    for (size_t g = first_group(); g < groups_.size(); g += step()) build_group(g);
    o_.barrier();
    if (o_.rank == 0) finish();
    o_.barrier();
    return result();
  }

 private:
  BuildResult result() const { return {read_manifest(o_.out), progress_, shards_kept_}; }
  size_t first_group() const { return static_cast<size_t>(o_.rank); }
  size_t step() const { return static_cast<size_t>(o_.ranks); }
  std::string journal_path() const { return cat(o_.out, "/", kJournalName, ".json"); }
  std::string journal_path(size_t group) const {
    return o_.out + "/" + kJournalName + numbered("-%05zu.json", group);
  }

  bool can_go_on() const {
    if (o_.existing == ExistingDataset::kReplace || reads_stdin_) return false;
    if (!fs::exists(journal_path())) return false;
    const json journal = parse_json(read_file(journal_path(), "journal"));
    return journal.is_object() && journal.value("fingerprint", "") == fingerprint_;
  }

  void prepare() {
    if (!can_go_on()) {
      prepare_dataset_folder(o_.out, splits_, o_.existing);
      publish_file(journal_path(),
                   json{{"fingerprint", fingerprint_}, {"groups", groups_.size()}}.dump(1) + "\n");
      return;
    }
    remove_temporary_files(o_.out);
  }

  GroupState read_state(size_t group) const {
    GroupState fresh;
    fresh.published.resize(splits_.size());
    fresh.documents_published.resize(splits_.size(), 0);
    if (!fs::exists(journal_path(group))) return fresh;
    try {
      const json journal = parse_json(read_file(journal_path(group), "journal"));
      GroupState state = fresh;
      state.done = journal.at("done");
      for (size_t s = 0; s < splits_.size(); ++s) {
        const json& split = journal.at("splits").at(splits_[s]);
        state.documents_published[s] = split.at("documents_published");
        for (const json& text : split.at("shards")) {
          const ShardEntry shard = shard_from_json_text(text.dump(), journal_path(group));
          if (!state.done) ShardReader(o_.out, shard, manifest_);  // throws when it is gone or damaged
          state.published[s].shards.push_back(shard);
        }
      }
      return state;
    } catch (const json::exception&) {
      return fresh;
    } catch (const DataError&) {
      return fresh;
    } catch (const SystemError& error) {
      if (!error.is_missing()) throw;  // not to be read now: what it holds is not made again for that
      return fresh;
    }
  }

  void write_state(size_t group, const GroupState& state) const {
    json journal = {{"done", state.done}};
    for (size_t s = 0; s < splits_.size(); ++s) {
      json shards = json::array();
      for (const ShardEntry& shard : state.published[s].shards)
        shards.push_back(json::parse(to_json_text(shard)));
      journal["splits"][splits_[s]] = {{"documents_published", state.documents_published[s]},
                                       {"shards", shards}};
    }
    publish_file(journal_path(group), journal.dump(1) + "\n");
  }

  size_t split_number(const std::string& document) const {
    const std::string name = split_of(document, o_.ranges);
    return static_cast<size_t>(std::find(splits_.begin(), splits_.end(), name) - splits_.begin());
  }

  void build_group(size_t group) {
    GroupState state = read_state(group);
    for (const SplitEntry& split : state.published) shards_kept_ += static_cast<int64_t>(split.shards.size());
    if (state.done) {
      advance(groups_[group].bytes);
      return;
    }
    std::vector<ShardWriter> writers;
    for (size_t s = 0; s < splits_.size(); ++s) {
      writers.emplace_back(o_.out, splits_[s], manifest_, o_.shard_tokens, numbered("g%05zu-", group),
                           state.published[s]);
    }
    const std::vector<int64_t> skip_before = state.documents_published;
    EncoderPool pool(tokenizer_, o_.threads,
                     o_.bytes_in_flight > 0 ? o_.bytes_in_flight : kBytesPerThread * o_.threads);
    const auto write_oldest = [&] {
      const std::unique_ptr<EncodedPiece> encoded = pool.take();
      ShardWriter& writer = writers[encoded->split];
      write(*encoded, writer);
      if (writer.published().shards.size() == state.published[encoded->split].shards.size()) return;
      state.published[encoded->split] = writer.published();
      state.documents_published[encoded->split] = encoded->document + 1;
      write_state(group, state);
    };
    int64_t document = -1;
    for (size_t f = groups_[group].begin; f < groups_[group].end; ++f) {
      const DocumentFile& file = files_[f];
      const bool one = is_one_document(file, o_.format);
      // Its name says that it is published: not even opened.
      if (one && document + 1 < skip_before[split_number(without_compression(file.name))]) {
        ++document;
        advance(file.bytes);
        continue;
      }
      DocumentReader reader(file, o_.format);
      int64_t consumed = 0;
      size_t split = 0;
      for (Piece piece; reader.next(piece);) {
        if (piece.begins) {
          ++document;
          split = split_number(piece.name);
        }
        advance(reader.consumed() - consumed);
        consumed = reader.consumed();
        if (document < skip_before[split]) continue;
        auto task = std::make_unique<EncodedPiece>();
        task->piece = std::move(piece);
        task->split = split;
        task->document = document;
        pool.give(std::move(task));
        while (pool.is_full()) write_oldest();
      }
    }
    while (!pool.empty()) write_oldest();
    for (size_t s = 0; s < splits_.size(); ++s) state.published[s] = writers[s].finish();
    state.done = true;
    write_state(group, state);
  }

  void write(const EncodedPiece& encoded, ShardWriter& writer) {
    const auto bytes = static_cast<int64_t>(encoded.piece.text.size());
    const int32_t start = tokenizer_.document_start();
    if (encoded.piece.begins) {
      writer.begin_document(encoded.piece.name);
      writer.extend(&start, 1, 0, 0);
    }
    writer.extend(encoded.ids.data(), static_cast<int64_t>(encoded.ids.size()), bytes, encoded.invalid_utf8);
    progress_.text_bytes += bytes;
    if (encoded.piece.ends) writer.end_document();
  }

  void advance(int64_t source_bytes) {
    progress_.source_bytes += source_bytes;
    o_.on_progress(progress_);
  }

  // Gives every shard its final number and publishes the manifest. May be killed at any point and run again.
  void finish() {
    for (const std::string& split : splits_) manifest_.splits[split];
    for (size_t group = 0; group < groups_.size(); ++group) {
      const GroupState state = read_state(group);
      require<DataError>(
          state.done, journal_path(group),
          " is missing or damaged (a rank's work cannot be found). Run the same command again.");
      for (size_t s = 0; s < splits_.size(); ++s) {
        for (const ShardEntry& shard : state.published[s].shards) add_shard(splits_[s], shard);
      }
    }
    write_manifest(o_.out, manifest_);
    remove_journals();
  }

  // The first one last: while it is there, the command goes on.
  void remove_journals() const {
    for (size_t group = 0; group < groups_.size(); ++group) fs::remove(journal_path(group));
    fs::remove(journal_path());
  }

  void add_shard(const std::string& split, ShardEntry shard) {
    std::vector<ShardEntry>& shards = manifest_.splits[split].shards;
    const std::string name = split + numbered("/shard-%05zu.h5", shards.size());
    std::error_code error;
    if (fs::exists(o_.out + "/" + shard.file))
      fs::rename(o_.out + "/" + shard.file, o_.out + "/" + name, error);
    require<DataError>(!error && fs::exists(o_.out + "/" + name), o_.out, "/", shard.file,
                       " cannot be renamed to its final name: ", error ? error.message() : "it is gone",
                       ". Run the same command again, with --overwrite if that fails.");
    shard.file = name;
    shards.push_back(shard);
  }

  const std::vector<DocumentFile>& files_;
  const Tokenizer& tokenizer_;
  const BuildOptions& o_;
  std::vector<std::string> splits_;
  Manifest manifest_;
  std::string fingerprint_;
  std::vector<Group> groups_;
  bool reads_stdin_ = false;
  std::optional<WriterLock> lock_;  // rank 0
  BuildProgress progress_;
  int64_t shards_kept_ = 0;
};

}  // namespace

BuildResult build_dataset(const std::vector<DocumentFile>& files, const Tokenizer& tokenizer,
                          const BuildOptions& options) {
  return Builder(files, tokenizer, options).run();
}

}  // namespace fwl
