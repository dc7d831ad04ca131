#include "data/dataset_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <utility>

#include "core/base/error.h"
#include "data/format.h"

namespace fwl {
namespace {

namespace fs = std::filesystem;

bool begins_with(const std::string& text, const std::string& start) {
  return text.compare(0, start.size(), start) == 0;
}

// Files of the format, under their final or their temporary names.
bool is_own_file(const fs::path& file) {
  const std::string name = file.filename().string();
  return begins_with(name, kManifestName) || begins_with(name, kTokenizerName) ||
         begins_with(name, kJournalName);
}

bool is_split_folder(const fs::path& folder) {
  return std::all_of(
      fs::directory_iterator(folder), fs::directory_iterator(), [](const fs::directory_entry& entry) {
        return entry.is_regular_file() && begins_with(entry.path().filename().string(), "shard-");
      });
}

// What in `dir` is no part of a data set; empty when all is.
std::string foreign_entry(const std::string& dir) {
  for (const fs::directory_entry& entry : fs::directory_iterator(dir)) {
    const bool own = entry.is_directory() && !entry.is_symlink()
                         ? is_split_folder(entry.path())
                         : entry.is_regular_file() && is_own_file(entry.path());
    if (!own) return entry.path().filename().string();
  }
  return "";
}

void remove_dataset(const std::string& dir) {
  fs::remove(fs::path(dir) / kManifestName);
  for (const fs::directory_entry& entry : fs::directory_iterator(dir)) {
    if (entry.path().filename() != kLockName) fs::remove_all(entry.path());
  }
}

bool holds_only_the_lock(const std::string& dir) {
  return std::all_of(fs::directory_iterator(dir), fs::directory_iterator(),
                     [](const fs::directory_entry& e) { return e.path().filename() == kLockName; });
}

void prepare(const std::string& dir, const std::vector<std::string>& splits, ExistingDataset existing) {
  require<ConfigError>(!fs::exists(dir) || fs::is_directory(dir), "--out '", dir,
                       "' is a file. Choose a new folder.");
  if (fs::exists(dir) && !holds_only_the_lock(dir)) {
    const std::string foreign = foreign_entry(dir);
    require<ConfigError>(
        foreign.empty(), "--out '", dir, "' holds '", foreign,
        "', which is no part of an fwl data set (files would be mixed). Choose a new folder.");
    require<ConfigError>(
        existing == ExistingDataset::kReplace, "--out '", dir, "' holds ",
        fs::exists(fs::path(dir) / kManifestName)
            ? "a data set already. "
            : "an unfinished data set of other files or options (or of standard input, which "
              "cannot be read again). Give the very command that began it to go on with it. ",
        "Give --overwrite to replace it, or choose a new folder.");
    remove_dataset(dir);
  }
  for (const std::string& split : splits) fs::create_directories(fs::path(dir) / split);
}

}  // namespace

WriterLock::WriterLock(const std::string& dir) : path_(cat(dir, "/", kLockName)) {
  std::error_code error;
  fs::create_directories(dir, error);
  // Where the folder cannot be made or written, or the file system has no locks, preparing it says so or goes
  // on.
  fd_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  const bool taken = fd_ >= 0 && ::flock(fd_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  if (taken) ::close(std::exchange(fd_, -1));
  require<ConfigError>(
      !taken, "--out '", dir,
      "' is being written by another `fwl tokenize` (both would write the same files). Wait for "
      "it, or choose a new folder; the ranks of an MPI job need --mpi.");
}

WriterLock::~WriterLock() {
  if (fd_ < 0) return;
  ::unlink(path_.c_str());
  ::close(fd_);
}

void prepare_dataset_folder(const std::string& dir, const std::vector<std::string>& splits,
                            ExistingDataset existing) {
  try {
    prepare(dir, splits, existing);
  } catch (const fs::filesystem_error& error) {
    throw ConfigError(cat("--out '", dir, "' cannot be prepared: ", error.what(),
                          ". Choose a folder that can be written."));
  }
}

void remove_temporary_files(const std::string& dir) {
  std::vector<fs::path> temporary;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(dir)) {
    if (entry.path().filename().string().find(".tmp-") != std::string::npos)
      temporary.push_back(entry.path());
  }
  for (const fs::path& path : temporary) fs::remove(path);
}

}  // namespace fwl
