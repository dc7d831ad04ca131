#include "data/dataset_check.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <set>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/hash.h"
#include "core/base/system_error.h"
#include "data/dataset_tokenizer.h"
#include "data/shard_reader.h"

namespace fwl {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kRowsAtOnce = 1 << 16;    // where a dataset has no chunks
constexpr int kMostPerDataset = 16;         // problems that are told one by one
constexpr int64_t kProbeBytes = 256 << 20;  // read to measure the speed

// Calls `action`; the message of what it throws, empty when it succeeds. What cannot be read is no problem of
// the data: that error goes on.
std::string problem_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const UnavailableError&) {
    throw;
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

class FileProbe {
 public:
  explicit FileProbe(const std::string& path) : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {}
  ~FileProbe() {
    if (fd_ >= 0) ::close(fd_);
  }
  FileProbe(const FileProbe&) = delete;
  FileProbe& operator=(const FileProbe&) = delete;

  std::string locking() const {
    if (fd_ < 0) return "unknown: no shard can be opened";
    if (::flock(fd_, LOCK_SH | LOCK_NB) == 0) return "works";
    const int error = errno;
    return cat("fails (", system_words(error),
               "): fwl takes no locks; for other HDF5 programs set HDF5_USE_FILE_LOCKING=FALSE");
  }
  // Reads up to `limit` bytes; how many it were.
  int64_t read(int64_t limit) const {
    std::vector<char> block(1 << 20);
    int64_t done = 0;
    if (fd_ < 0) return 0;
    ::posix_fadvise(fd_, 0, 0, POSIX_FADV_DONTNEED);  // the disk's speed, not the page cache's
    for (ssize_t got = 1; got > 0 && done < limit; done += std::max<ssize_t>(got, 0))
      got = ::read(fd_, block.data(), block.size());
    return done;
  }

 private:
  int fd_;
};

class Checker {
 public:
  explicit Checker(const std::string& dir) : dir_(dir), manifest_(read_manifest(dir)) {}

  DatasetCheck run() {
    if_available(tokenizer_file(manifest_), [&] { check_tokenizer(); });
    for (const auto& [name, split] : manifest_.splits) {
      for (const ShardEntry& shard : split.shards) if_available(shard.file, [&] { check_shard(shard); });
      result_.bytes += split.bytes();
    }
    note_links();
    note_unlisted_files();
    probe_file_system();
    return std::move(result_);
  }

 private:
  void report(const std::string& file, const std::string& dataset, int64_t chunk, int64_t offset,
              const std::string& problem) {
    result_.problems.push_back({file, dataset, chunk, offset, problem});
  }

  void if_available(const std::string& file, const std::function<void()>& check) {
    try {
      check();
    } catch (const UnavailableError& error) {
      result_.problems.push_back({file, "", -1, -1, error.what(), true});
    }
  }

  void note_links() {
    int64_t links = 0;
    for (const auto& [name, split] : manifest_.splits) {
      for (const ShardEntry& shard : split.shards) links += leads_outside(dir_, shard.file) ? 1 : 0;
    }
    if (links > 0)
      result_.remarks.push_back(cat(links,
                                    " shard(s) are symbolic links to outside the data set; the manifest's "
                                    "checksums say what they must hold"));
  }

  void check_tokenizer() {
    const std::string problem = problem_of([&] {
      const auto tokenizer = dataset_tokenizer(dir_, manifest_);
      for (int32_t id = 0; id < tokenizer->vocab_size(); ++id)
        bytes_of_token_.push_back(static_cast<int64_t>(tokenizer->decode({id}).size()));
    });
    if (!problem.empty()) report(tokenizer_file(manifest_), "", -1, -1, problem);
  }

  // Reads a dataset chunk by chunk and hands each to `use`; names every chunk that cannot be read.
  template <typename T>
  bool read_chunks(const ShardEntry& shard, const Hdf5File& file, const std::string& dataset,
                   const std::function<void(int64_t, const std::vector<T>&)>& use) {
    int64_t rows = 0, step = 0;
    const std::string problem = problem_of([&] {
      rows = file.shape(dataset).at(0);
      step = file.chunk_rows(dataset);
      // Chunks that were never stored read as zeros: no file of ours has them.
      const auto most = static_cast<int64_t>(2000 * fs::file_size(file.path())) + 1024;
      require<DataError>(rows <= most, "claims ", rows, " entries, far more than the file can hold");
    });
    if (!problem.empty()) {
      report(shard.file, dataset, -1, -1, problem);
      return false;
    }
    if (step <= 0) step = kRowsAtOnce;
    int bad_chunks = 0;
    std::vector<T> part;
    for (int64_t first = 0; first < rows; first += step) {
      part.resize(static_cast<size_t>(std::min(step, rows - first)));
      const std::string bad =
          problem_of([&] { file.read_rows(dataset, first, static_cast<int64_t>(part.size()), part.data()); });
      if (bad.empty()) {
        use(first, part);
        continue;
      }
      int64_t offset = -1;
      problem_of([&] { offset = file.chunk_at(dataset, first).value_or(Hdf5Chunk{-1, -1, 0}).file_offset; });
      report(shard.file, dataset, first / step, offset, bad);
      if (++bad_chunks < kMostPerDataset) continue;
      report(shard.file, dataset, -1, -1, "the rest was not looked at: too much of it is damaged");
      return false;
    }
    return bad_chunks == 0;
  }

  void check_shard(const ShardEntry& shard) {
    result_.shards += 1;
    result_.documents += shard.documents;
    result_.tokens += shard.tokens;
    std::optional<ShardReader> reader;
    const std::string unusable = problem_of([&] { reader.emplace(dir_, shard, manifest_); });
    if (!unusable.empty()) return report(shard.file, "", -1, -1, unusable);
    const Hdf5File& file = reader->file();
    bool sound = true;
    for (const char* dataset : {"documents/offsets", "documents/bytes", "documents/names"}) {
      sound =
          read_chunks<int64_t>(shard, file, dataset, [](int64_t, const std::vector<int64_t>&) {}) && sound;
    }
    std::vector<Document> documents;
    if (sound) {
      const std::string problem = problem_of([&] { documents = reader->documents(); });
      if (!problem.empty()) report(shard.file, "documents", -1, -1, problem);
    }
    check_tokens(shard, file, documents);
  }

  // The checksum over all tokens, their range, and each document's start and length in bytes.
  void check_tokens(const ShardEntry& shard, const Hdf5File& file, const std::vector<Document>& documents) {
    uint64_t hash = kTokenHashSeed;
    int64_t expected = 0;
    DocumentCheck check{documents, 0, 0, 0};
    std::string problem;
    const bool sound =
        read_chunks<uint32_t>(shard, file, "tokens", [&](int64_t first, const std::vector<uint32_t>& tokens) {
          hash = hash_tokens(tokens.data(), static_cast<int64_t>(tokens.size()), hash);
          // After a chunk that could not be read, documents cannot be followed.
          if (first != expected) check.entry = -1;
          expected = first + static_cast<int64_t>(tokens.size());
          for (size_t i = 0; i < tokens.size() && problem.empty() && check.entry >= 0; ++i)
            problem = check_token(check, first + static_cast<int64_t>(i), tokens[i]);
          if (!problem.empty() && check.entry >= 0) {
            report(shard.file, "tokens", first / std::max<int64_t>(1, file.chunk_rows("tokens")), -1,
                   problem);
            check.entry = -1;  // said once a shard
          }
        });
    if (!sound) return;
    if (problem.empty() && check.entry >= 0) {
      const std::string last = check_length(check, shard.tokens);
      if (!last.empty()) report(shard.file, "documents/bytes", -1, check.entry - 1, last);
    }
    const std::string checksum = to_hex(mix_bits(hash));
    if (checksum != shard.checksum)
      report(shard.file, "tokens", -1, -1,
             cat("has checksum ", checksum, ", the manifest says ", shard.checksum,
                 " (damaged or swapped). Make the data set again."));
  }

  struct DocumentCheck {
    const std::vector<Document>& documents;  // empty: only ranges are checked
    int64_t next;                            // document that begins next
    int64_t bytes;                           // of the current document, so far
    int64_t entry;                           // -1: a problem was said
  };

  std::string check_token(DocumentCheck& check, int64_t position, uint32_t token) const {
    if (token >= manifest_.vocab_size)
      return cat("offset ", position, ": token ", token, " is outside the vocabulary of ",
                 manifest_.vocab_size);
    if (check.documents.empty()) return "";
    const bool begins = check.next < static_cast<int64_t>(check.documents.size()) &&
                        check.documents[static_cast<size_t>(check.next)].first_token == position;
    if (begins != (token == static_cast<uint32_t>(manifest_.document_start)))
      return cat("offset ", position, ": ",
                 begins ? "no document-start token where document " : "document-start token, but document ",
                 check.next, begins ? " begins" : " begins later");
    if (begins) {
      const std::string problem = check_length(check, position);
      check.next += 1;
      check.bytes = 0;
      return problem;
    }
    if (token < bytes_of_token_.size()) check.bytes += bytes_of_token_[token];
    return "";
  }

  // Whether the document that ends at `position` decodes to as many bytes as its entry says.
  std::string check_length(DocumentCheck& check, int64_t position) const {
    if (check.next == 0 || bytes_of_token_.empty()) return "";
    const Document& document = check.documents[static_cast<size_t>(check.next - 1)];
    if (document.num_bytes == check.bytes) return "";
    return cat("document '", document.name, "', which ends at token ", position, ", decodes to ", check.bytes,
               " bytes, 'documents/bytes' says ", document.num_bytes);
  }

  void note_unlisted_files() {
    std::set<std::string> listed = {kManifestName, tokenizer_file(manifest_)};
    for (const auto& [name, split] : manifest_.splits) {
      for (const ShardEntry& shard : split.shards) listed.insert(shard.file);
    }
    std::error_code error;
    for (auto it = fs::recursive_directory_iterator(dir_, error);
         !error && it != fs::recursive_directory_iterator(); it.increment(error)) {
      const std::string name = it->path().lexically_relative(dir_).generic_string();
      std::error_code unknown;  // of a link that leads nowhere
      if (!it->is_directory(unknown) && listed.count(name) == 0)
        result_.remarks.push_back(cat("'", name, "' is not named by the manifest"));
    }
    if (error) result_.remarks.push_back(cat("the folder cannot be listed: ", error.message()));
  }

  void probe_file_system() {
    const auto start = std::chrono::steady_clock::now();
    int64_t read = 0;
    result_.locking = "unknown: there is no shard";
    for (const auto& [name, split] : manifest_.splits) {
      for (const ShardEntry& shard : split.shards) {
        std::error_code error;
        const auto size = fs::file_size(dir_ + "/" + shard.file, error);
        result_.file_bytes += error ? 0 : static_cast<int64_t>(size);
        if (read >= kProbeBytes) continue;
        const FileProbe probe(dir_ + "/" + shard.file);
        if (read == 0) result_.locking = probe.locking();
        read += probe.read(kProbeBytes - read);
      }
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    result_.read_mb_per_s = static_cast<double>(read) / 1e6 / std::max(seconds, 1e-9);
  }

  std::string dir_;
  Manifest manifest_;
  std::vector<int64_t> bytes_of_token_;  // empty: the tokenizer is damaged
  DatasetCheck result_;
};

}  // namespace

DatasetCheck check_dataset(const std::string& dir) {
  return Checker(dir).run();
}

}  // namespace fwl
