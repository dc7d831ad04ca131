#include "data/dataset_builder.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>
#include <utility>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/hash.h"
#include "core/base/json.h"
#include "core/base/log.h"
#include "core/base/system_error.h"
#include "data/dataset_tokenizer.h"
#include "data/encoder_pool.h"
#include "data/group_journal.h"
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

std::vector<std::string> split_names(const std::vector<SplitRange>& ranges,
                                     const std::vector<DocumentFile>& files) {
  std::vector<std::string> names = {"train"};
  const auto add = [&names](const std::string& name) {
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  };
  for (const SplitRange& range : ranges) add(range.name);
  for (const DocumentFile& file : files)
    if (!file.split.empty()) add(file.split);
  return names;
}

// All options that decide the content of the data set.
std::string fingerprint_of(const Manifest& manifest, const BuildOptions& o, int64_t group_bytes,
                           const std::vector<std::string>& splits) {
  std::string text = cat(kDatasetVersion, ' ', manifest.tokenizer_kind, ' ', manifest.tokenizer_hash, ' ',
                         name_of(o.compression), ' ', o.shard_tokens, ' ', group_bytes, ' ', o.format.field,
                         '\n', o.format.document_start, '\n', static_cast<int>(o.format.format), ' ',
                         static_cast<int>(o.format.cut), ' ', o.format.document_bytes, '\n');
  for (const SplitRange& range : o.ranges) text += cat(range.name, '=', range.begin, '-', range.end, '\n');
  for (const std::string& split : splits) text += split + '\n';
  return to_hex(hash_bytes(text));
}

// The files as they were listed: while this stays, so do their documents.
std::string stamp_of(const DocumentFile* begin, const DocumentFile* end) {
  uint64_t hash = hash_bytes("");
  for (const DocumentFile* f = begin; f != end; ++f)
    hash = hash_bytes(cat(f->name, '\n', f->path, '\n', f->split, '\n', f->bytes, ' ', f->time, '\n'), hash);
  return to_hex(hash);
}

std::string hash_of_names(const std::vector<DocumentFile>& files) {
  uint64_t hash = hash_bytes("");
  for (const DocumentFile& file : files) hash = hash_bytes(file.name, hash);
  return to_hex(hash);
}

// GroupState's hash, piece by piece: names, texts, and where one ends.
uint64_t hash_with(uint64_t hash, const Piece& piece, uint64_t text_hash) {
  if (piece.begins) hash = hash_bytes(piece.name, hash);
  return mix_bits(hash ^ mix_bits(text_hash + (piece.ends ? 1 : 0)));
}

// What was read may be neither the old text nor the new one.
void warn_if_changed(const DocumentFile& file) {
  static std::atomic<int> said = 0;
  constexpr int kMost = 10;
  if (said >= kMost || why_not_the_same(file).empty()) return;
  log_warn(
      cat("'", file.path,
          "' was changed after it was listed (its text may be a mixture of two versions). Tokenize again "
          "when it stays as it is.",
          ++said == kMost ? " Further files are not named." : ""));
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

class Builder {
 public:
  Builder(const std::vector<DocumentFile>& files, const Tokenizer& tokenizer, const BuildOptions& options)
      : files_(files), tokenizer_(tokenizer), o_(options), splits_(split_names(options.ranges, files)) {
    embed_tokenizer(tokenizer, &manifest_);
    manifest_.compression = o_.compression;
    const int64_t group_bytes = o_.group_bytes > 0 ? o_.group_bytes : 16 * o_.shard_tokens;
    fingerprint_ = fingerprint_of(manifest_, o_, group_bytes, splits_);
    groups_ = groups_of(files, group_bytes);
    for (const DocumentFile& file : files) reads_stdin_ = reads_stdin_ || file.path == kStandardInput;
  }

  BuildResult run() {
    open_folder();
    try {
      require_same_sources();
      build();
    } catch (...) {
      leave_in_order();
      throw;
    }
    result_.manifest = read_manifest(o_.out);
    result_.progress = progress_;
    return result_;
  }

 private:
  size_t first_group() const { return static_cast<size_t>(o_.rank); }
  size_t step() const { return static_cast<size_t>(o_.ranks); }
  static std::string journal_in(const std::string& dir) { return cat(dir, "/", kJournalName, ".json"); }
  std::string journal_path() const { return journal_in(dir_); }
  std::string journal_path(size_t group) const {
    return dir_ + "/" + kJournalName + numbered("-%05zu.json", group);
  }
  bool replaces() const { return dir_ != o_.out; }
  std::string stamp_of_group(size_t group) const {
    return stamp_of(files_.data() + groups_[group].begin, files_.data() + groups_[group].end);
  }

  // ---- the folder

  // Rank 0 prepares it; the others look whether they see the same one.
  void open_folder() {
    if (o_.rank == 0) {
      finish_exchange(o_.out);
      locks_.push_back(std::make_unique<WriterLock>(o_.out));
      dir_ = working_folder();
      if (replaces()) locks_.push_back(std::make_unique<WriterLock>(dir_));
      prepare();
    }
    const std::string dir = o_.from_first(dir_), journal = o_.from_first(journal_);
    dir_ = dir.empty() ? o_.out : dir;
    if (o_.rank != 0 && !journal.empty()) require_same_folder(journal);
  }

  // A data set that is there stays until the new one is whole.
  std::string working_folder() const {
    const bool replaced = o_.existing == ExistingDataset::kReplace &&
                          fs::exists(o_.out + "/" + kManifestName) && !is_this_one(o_.out);
    return replaced ? replacement_folder(o_.out) : o_.out;
  }

  json read_journal(const std::string& dir) const {
    if (reads_stdin_ || !fs::exists(journal_in(dir))) return {};
    const json journal = parse_json(read_file(journal_in(dir), "journal"));
    return journal.is_object() && journal.value("fingerprint", "") == fingerprint_ ? journal : json();
  }
  // Whether a build of the very same sources with the same options was killed in `dir`, even when it was
  // whole.
  bool is_this_one(const std::string& dir) const {
    const json journal = read_journal(dir);
    return journal.is_object() && journal.value("sources", "") == stamp_of_all();
  }
  std::string stamp_of_all() const { return stamp_of(files_.data(), files_.data() + files_.size()); }

  // Files may have been repaired since, and added or left out, as long as something that is there can be
  // kept.
  bool can_go_on() const {
    const json journal = read_journal(dir_);
    if (!journal.is_object()) return false;
    if (is_this_one(dir_))
      return replaces() || o_.existing != ExistingDataset::kReplace || fs::exists(dir_ + "/" + kManifestName);
    if (fs::exists(dir_ + "/" + kManifestName)) return false;
    if (!replaces() && o_.existing == ExistingDataset::kReplace) return false;
    if (has_final_shards()) return false;
    if (journal.value("names", "") == hash_of_names(files_)) return true;
    for (size_t group = 0; group < groups_.size(); ++group) {
      GroupState state = load_state(group);
      if (state.shards() == 0) continue;
      if (state.stamp != stamp_of_group(group)) count_the_same(group, &state);
      return state.shards() > 0;
    }
    return false;
  }

  // Whether a build of other sources was killed while finish() gave its shards their final numbers: those of
  // these sources would get the names of shards that are there.
  bool has_final_shards() const {
    return std::any_of(splits_.begin(), splits_.end(), [&](const std::string& split) {
      return fs::exists(dir_ + "/" + final_name(split, 0));
    });
  }
  static std::string final_name(const std::string& split, size_t number) {
    return split + numbered("/shard-%05zu.h5", number);
  }

  void prepare() {
    if (can_go_on()) {
      remove_temporary_files(dir_);
      remove_other_groups();
    } else {
      prepare_dataset_folder(dir_, splits_, replaces() ? ExistingDataset::kReplace : o_.existing);
    }
    std::random_device draw;
    journal_ = json{{"fingerprint", fingerprint_},
                    {"sources", stamp_of_all()},
                    {"names", hash_of_names(files_)},
                    {"groups", groups_.size()},
                    {"build", to_hex(static_cast<uint64_t>(draw()) << 32 | draw())}}
                   .dump(1) +
               "\n";
    publish_file(journal_path(), journal_);
  }

  // What a list of files that was longer has left.
  void remove_other_groups() const {
    for (size_t group = groups_.size(); fs::exists(journal_path(group)); ++group) {
      for (const SplitEntry& split : load_state(group).published)
        for (const ShardEntry& shard : split.shards) fs::remove(dir_ + "/" + shard.file);
      fs::remove(journal_path(group));
    }
  }

  // Network file systems may show a new file some moments later.
  void require_same_folder(const std::string& journal) const {
    for (int tries = 0; tries < 50; ++tries) {
      if (fs::exists(journal_path()) && read_file(journal_path(), "journal") == journal) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    throw UnavailableError(cat("rank ", o_.rank, " does not see --out '", dir_,
                               "' as rank 0 has made it (its "
                               "shards would be written elsewhere). Give a folder that all ranks share."));
  }

  void require_same_sources() {
    std::string problem;
    for (size_t g = first_group(); o_.rank != 0 && g < groups_.size(); g += step()) {
      for (size_t f = groups_[g].begin; f < groups_[g].end && problem.empty(); ++f) {
        const std::string why = why_not_the_same(files_[f]);
        if (!why.empty())
          problem = cat(
              "source '", files_[f].path, "' is not as rank 0 has listed it: on rank ", o_.rank, " it ", why,
              " (documents would be missing or doubled). Give all ranks the same files, copied with "
              "their times (cp -p, rsync -t), or a folder that they share.");
      }
    }
    const bool any = o_.any(!problem.empty());
    require<UnavailableError>(problem.empty(), problem);
    require<UnavailableError>(
        !any,
        "another rank does not see the sources as rank 0 has listed them; its message "
        "says which (documents would be missing or doubled). Give all ranks the same files.");
  }

  // After a failure: what is whole stays for the next try, and nothing else.
  void leave_in_order() noexcept {
    if (o_.rank != 0 || o_.ranks > 1) return;
    try {
      const bool kept = holds_shards(dir_);
      if (kept)
        log_warn(cat("finished shards stay in '", dir_,
                     "': the same command goes on with them, also when a source "
                     "was repaired."));
      if (!kept && replaces()) remove_dataset_folder(dir_);
    } catch (...) {  // the failure itself says more
    }
  }

  // ---- journals

  GroupState load_state(size_t group) const { return read_group_journal(journal_path(group), splits_); }

  // Where the group goes on: what the journal says, as far as it is there and of the sources as they are now.
  GroupState usable_state(size_t group) const {
    GroupState state = load_state(group);
    if (state.stamp != stamp_of_group(group)) {
      const GroupState before = state;
      count_the_same(group, &state);
      for (size_t s = 0; s < splits_.size(); ++s)
        for (size_t i = state.published[s].shards.size(); i < before.published[s].shards.size(); ++i)
          fs::remove(dir_ + "/" + before.published[s].shards[i].file);
    }
    if (state.done) return state;
    try {
      for (const SplitEntry& split : state.published) {
        for (const ShardEntry& shard : split.shards) {
          ShardReader(dir_, shard, manifest_);  // throws when it is gone or damaged
        }
      }
    } catch (const DataError&) {
      return GroupState(splits_.size());
    } catch (const SystemError& error) {
      if (!error.is_missing()) throw;
      return GroupState(splits_.size());
    }
    return state;
  }

  // The group's files are not those of the journal: leaves the shards whose documents are still the same.
  void count_the_same(size_t group, GroupState* state) const {
    std::vector<size_t> same(splits_.size(), 0);
    const auto undecided = [&] {
      for (size_t s = 0; s < splits_.size(); ++s)
        if (same[s] < state->ends[s].size()) return true;
      return false;
    };
    std::vector<uint64_t> hash(splits_.size(), GroupState::kNoDocuments);
    DocumentFormat lenient = o_.format;
    lenient.bad_lines = BadLines::kSkip;
    int64_t documents = 0;
    size_t split = 0;
    try {
      for (size_t f = groups_[group].begin; f < groups_[group].end && undecided(); ++f) {
        DocumentReader reader(files_[f], lenient);
        for (Piece piece; undecided() && reader.next(piece);) {
          if (piece.begins) split = split_number(files_[f], piece.name);
          hash[split] = hash_with(hash[split], piece, hash_bytes(piece.text));
          if (!piece.ends) continue;
          documents += 1;
          std::vector<GroupState::End>& ends = state->ends[split];
          if (same[split] == ends.size() || ends[same[split]].documents != documents) continue;
          if (ends[same[split]].hash == hash[split]) {
            same[split] += 1;
          } else {
            ends.resize(same[split]);
          }
        }
      }
    } catch (const DataError&) {  // the build itself meets it again
    }
    state->done = false;
    for (size_t s = 0; s < splits_.size(); ++s) {
      state->ends[s].resize(same[s]);
      state->published[s].shards.resize(same[s]);
    }
  }

  // ---- documents

  size_t split_number(const DocumentFile& file, const std::string& document) const {
    const std::string name = file.split.empty() ? split_of(document, o_.ranges) : file.split;
    return static_cast<size_t>(std::find(splits_.begin(), splits_.end(), name) - splits_.begin());
  }

  void build() {
    // Killed after the manifest: no more than to put it into place. The first rank says so, since others may
    // still see a manifest that it has replaced (network file systems).
    const bool is_whole = o_.any(o_.rank == 0 && fs::exists(dir_ + "/" + kManifestName));
    if (!is_whole) {
      for (size_t g = first_group(); g < groups_.size(); g += step()) {
        if (!reads_stdin_) progress_.source_total += groups_[g].bytes;
      }
      for (size_t g = first_group(); g < groups_.size(); g += step()) build_group(g);
      o_.barrier();
    }
    if (o_.rank == 0) {
      if (!is_whole) finish();
      put_in_place();
    }
    o_.barrier();
  }

  void build_group(size_t group) {
    GroupState state = usable_state(group);
    result_.shards_kept += static_cast<int64_t>(state.shards());
    if (state.done) {
      advance(groups_[group].bytes);
      return;
    }
    state.stamp = stamp_of_group(group);
    state.text_files = state.json_files = 0;
    state.skipped_lines = {};
    GroupWriter writer(*this, group, std::move(state));
    try {
      writer.read();
    } catch (const Error&) {
      writer.save_what_is_whole();
      throw;
    }
    writer.finish();
  }

  // Reads, encodes and writes the documents of a group that are not published.
  class GroupWriter {
   public:
    GroupWriter(Builder& builder, size_t group, GroupState state)
        : b_(builder),
          group_(group),
          state_(std::move(state)),
          pool_(b_.tokenizer_, b_.o_.threads,
                b_.o_.bytes_in_flight > 0 ? b_.o_.bytes_in_flight : kBytesPerThread * b_.o_.threads) {
      for (size_t s = 0; s < b_.splits_.size(); ++s) {
        writers_.emplace_back(b_.dir_, b_.splits_[s], b_.manifest_, b_.o_.shard_tokens,
                              numbered("g%05zu-", group), state_.published[s]);
        skip_before_.push_back(state_.documents_published(s));
        hashes_.push_back(state_.hash(s));
      }
    }

    void read() {
      for (size_t f = b_.groups_[group_].begin; f < b_.groups_[group_].end; ++f) read_file(b_.files_[f]);
      while (!pool_.empty()) write_oldest();
    }
    // After a failure to read: shards that what was read before has filled.
    void save_what_is_whole() noexcept {
      try {
        while (!pool_.empty()) write_oldest();
      } catch (...) {  // the first failure says more
      }
    }
    void finish() {
      for (size_t s = 0; s < writers_.size(); ++s) state_.published[s] = writers_[s].finish();
      state_.done = true;
      write_group_journal(b_.journal_path(group_), b_.splits_, state_);
    }

   private:
    void read_file(const DocumentFile& file) {
      // Its name says that it is published: not even opened.
      if (is_one_document(file, b_.o_.format) &&
          document_ + 1 < skip_before_[b_.split_number(file, without_compression(file.name))]) {
        ++document_;
        state_.text_files += 1;
        b_.advance(file.bytes);
        return;
      }
      DocumentReader reader(file, b_.o_.format);
      (reader.is_json_lines() ? state_.json_files : state_.text_files) += 1;
      int64_t consumed = 0;
      size_t split = 0;
      for (Piece piece; reader.next(piece);) {
        if (piece.begins) {
          ++document_;
          split = b_.split_number(file, piece.name);
        }
        b_.advance(reader.consumed() - consumed);
        consumed = reader.consumed();
        if (document_ < skip_before_[split]) continue;
        auto task = std::make_unique<EncodedPiece>();
        task->piece = std::move(piece);
        task->split = split;
        task->document = document_;
        pool_.give(std::move(task));
        while (pool_.is_full()) write_oldest();
      }
      state_.skipped_lines.add(reader.skipped_lines());
      warn_if_changed(file);
    }

    void write_oldest() {
      const std::unique_ptr<EncodedPiece> encoded = pool_.take();
      const size_t s = encoded->split;
      b_.write(*encoded, writers_[s]);
      hashes_[s] = hash_with(hashes_[s], encoded->piece, encoded->text_hash);
      if (writers_[s].published().shards.size() == state_.published[s].shards.size()) return;
      state_.published[s] = writers_[s].published();
      state_.ends[s].push_back({encoded->document + 1, hashes_[s]});
      write_group_journal(b_.journal_path(group_), b_.splits_, state_);
    }

    Builder& b_;
    size_t group_;
    GroupState state_;
    std::vector<ShardWriter> writers_;
    std::vector<int64_t> skip_before_;
    std::vector<uint64_t> hashes_;
    int64_t document_ = -1;
    EncoderPool pool_;
  };

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

  // ---- the end

  // Gives every shard its final number and publishes the manifest. May be killed at any point and run again.
  void finish() {
    std::vector<GroupState> states;
    for (size_t group = 0; group < groups_.size(); ++group) {
      states.push_back(load_state(group));
      require<DataError>(
          states.back().done, journal_path(group),
          " is missing or damaged (a rank's work cannot be found). Run the same command again.");
      result_.text_files += states.back().text_files;
      result_.json_files += states.back().json_files;
      result_.skipped_lines.add(states.back().skipped_lines);
    }
    manifest_.bad_lines = result_.skipped_lines.count;
    require_documents(states);
    for (const std::string& split : splits_) manifest_.splits[split];
    for (const GroupState& state : states) {
      for (size_t s = 0; s < splits_.size(); ++s) {
        for (const ShardEntry& shard : state.published[s].shards) add_shard(splits_[s], shard);
      }
    }
    write_manifest(dir_, manifest_);
  }

  void require_documents(const std::vector<GroupState>& states) const {
    if (result_.skipped_lines.count == 0) return;
    const bool any =
        std::any_of(states.begin(), states.end(), [](const GroupState& s) { return s.shards() > 0; });
    const BadLine& line = result_.skipped_lines.first.at(0);
    require<DataError>(any, "all ", result_.skipped_lines.count, " lines are bad, the first in ", line.file,
                       ", line ", line.line, ": ", line.problem, " Nothing is left to read.");
  }

  void put_in_place() {
    std::string replaced;
    if (replaces()) {
      exchange_folders(dir_, o_.out);
      replaced = std::exchange(dir_, o_.out);
    }
    remove_journals();
    if (!replaced.empty()) remove_dataset_folder(replaced);
  }

  // The first one last: while it is there, the command goes on.
  void remove_journals() const {
    for (size_t group = 0; group < groups_.size(); ++group) fs::remove(journal_path(group));
    fs::remove(journal_path());
  }

  void add_shard(const std::string& split, ShardEntry shard) {
    std::vector<ShardEntry>& shards = manifest_.splits[split].shards;
    const std::string name = final_name(split, shards.size());
    std::error_code error;
    if (fs::exists(dir_ + "/" + shard.file)) fs::rename(dir_ + "/" + shard.file, dir_ + "/" + name, error);
    require<DataError>(!error && fs::exists(dir_ + "/" + name), dir_, "/", shard.file,
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
  std::string dir_;      // where it is built; o_.out at the end
  std::string journal_;  // its text, on rank 0
  std::string fingerprint_;
  std::vector<Group> groups_;
  bool reads_stdin_ = false;
  std::vector<std::unique_ptr<WriterLock>> locks_;  // rank 0
  BuildProgress progress_;
  BuildResult result_;
};

}  // namespace

BuildResult build_dataset(const std::vector<DocumentFile>& files, const Tokenizer& tokenizer,
                          const BuildOptions& options) {
  return Builder(files, tokenizer, options).run();
}

}  // namespace fwl
