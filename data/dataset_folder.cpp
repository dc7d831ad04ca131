#include "data/dataset_folder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/file_lock.h"
#include "core/base/log.h"
#include "data/format.h"

namespace fwl {
namespace {

namespace fs = std::filesystem;

// Files of the format, under their final or their temporary names.
bool is_own_file(const fs::path& file) {
  const std::string name = file.filename().string();
  return name.starts_with(kManifestName) || name.starts_with(kTokenizerName) ||
         name.starts_with(kJournalName);
}

bool is_split_folder(const fs::path& folder) {
  return std::all_of(
      fs::directory_iterator(folder), fs::directory_iterator(), [](const fs::directory_entry& entry) {
        return entry.is_regular_file() && entry.path().filename().string().starts_with("shard-");
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

void require_nothing_foreign(const std::string& dir) {
  const std::string foreign = foreign_entry(dir);
  require<ConfigError>(foreign.empty(), "--out '", dir, "' holds '", foreign,
                       "', which is no part of an fwl data set (files would be mixed). Choose a new folder.");
}

void prepare(const std::string& dir, const std::vector<std::string>& splits, ExistingDataset existing) {
  require<ConfigError>(!fs::exists(dir) || fs::is_directory(dir), "--out '", dir,
                       "' is a file. Choose a new folder.");
  if (fs::exists(dir) && !holds_only_the_lock(dir)) {
    require_nothing_foreign(dir);
    const bool finished = fs::exists(fs::path(dir) / kManifestName);
    require<ConfigError>(
        existing == ExistingDataset::kReplace || (!finished && !holds_shards(dir)), "--out '", dir,
        "' holds ",
        finished ? "a data set already. "
                 : "an unfinished data set of other files or options (or of standard input, which "
                   "cannot be read again). Give the very command that began it to go on with it. ",
        "Give --overwrite to replace it, or choose a new folder.");
    remove_dataset(dir);
  }
  for (const std::string& split : splits) fs::create_directories(fs::path(dir) / split);
}

}  // namespace

WriterLock::WriterLock(const std::string& dir) {
  std::error_code error;
  fs::create_directories(dir, error);
  const std::string path = cat(dir, "/", kLockName);
  bool taken = false, ours = false;
  while (!taken && !ours) {
    // Where the folder cannot be made or written, or the file system has no locks, preparing it says so or
    // goes on.
    folder_ = ::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    file_ = folder_ < 0 ? -1 : ::openat(folder_, kLockName, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (file_ < 0) return;
    const FileLock lock = lock_file(file_, path);
    taken = lock == FileLock::kTaken;
    ours = !taken && lock != FileLock::kGone;  // a holder that ends removes its file
    if (!ours) release();
  }
  require<ConfigError>(
      !taken, "--out '", dir,
      "' is being written by another `fwl tokenize` (both would write the same files). Wait for "
      "it, or choose a new folder; the ranks of an MPI job need --mpi.");
}

void WriterLock::release() {
  if (file_ >= 0) ::close(std::exchange(file_, -1));
  if (folder_ >= 0) ::close(std::exchange(folder_, -1));
}

// Removed while it is held: whoever locks it afterwards sees that it is gone, and makes a new one.
WriterLock::~WriterLock() {
  if (file_ >= 0) ::unlinkat(folder_, kLockName, 0);
  release();
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

bool holds_shards(const std::string& dir) {
  std::error_code error;
  for (auto it = fs::recursive_directory_iterator(dir, error); it != fs::recursive_directory_iterator();
       it.increment(error)) {
    if (error) return true;
    if (it->path().filename().string().starts_with("shard-") && it->path().extension() == ".h5") return true;
  }
  return false;
}

std::string replacement_folder(const std::string& dir) {
  require_nothing_foreign(dir);
  const fs::path real = fs::canonical(dir), above = real.parent_path();
  struct stat own {
  }, parent{};
  const bool is_mount =
      ::stat(real.c_str(), &own) == 0 && ::stat(above.c_str(), &parent) == 0 && own.st_dev != parent.st_dev;
  const char* why = is_mount                                    ? "it is a mount point"
                    : ::access(above.c_str(), W_OK | X_OK) != 0 ? "the folder above it cannot be written"
                                                                : nullptr;
  require<ConfigError>(
      why == nullptr, "--out '", dir, "' cannot be replaced as a whole: ", why == nullptr ? "" : why,
      " (the new data set is built beside it and takes its place when it is whole). Choose a new "
      "folder, or remove the data set first.");
  return real.string() + kUnfinishedEnding;
}

void exchange_folders(const std::string& replacement, const std::string& dir) {
  const std::string real = fs::canonical(dir).string(), aside = real + kAsideEnding;
  const auto renamed = [](const std::string& from, const std::string& to) {
    return ::rename(from.c_str(), to.c_str()) == 0;
  };
  if (::renameat2(AT_FDCWD, replacement.c_str(), AT_FDCWD, real.c_str(), RENAME_EXCHANGE) == 0) {
    sync_path(fs::path(real).parent_path().string());
    return;
  }
  int error = errno;
  if (error == EINVAL || error == ENOSYS || error == EOPNOTSUPP) {  // not on this file system: two steps
    if (renamed(real, aside)) {
      if (renamed(replacement, real)) {
        renamed(aside, replacement);
        sync_path(fs::path(real).parent_path().string());
        return;
      }
      error = errno;
      renamed(aside, real);
    } else {
      error = errno;
    }
  }
  throw UnavailableError(cat("--out '", dir, "' cannot be replaced by '", replacement,
                             "', which is whole: ", std::strerror(error),
                             " (the old data set is as it was). Rename it yourself, or give "
                             "the same command again."));
}

void finish_exchange(const std::string& dir) {
  std::error_code error;
  fs::path real = fs::weakly_canonical(dir, error);
  if (real.filename().empty()) real = real.parent_path();
  const std::string aside = real.string() + kAsideEnding;
  if (!fs::exists(real, error) && fs::exists(aside, error)) fs::rename(aside, real, error);
}

void remove_dataset_folder(const std::string& dir) {
  try {
    const std::string foreign = foreign_entry(dir);
    if (foreign.empty()) {
      remove_dataset(dir);
      fs::remove_all(dir);
      return;
    }
    log_warn(cat("'", dir, "' stays: it holds '", foreign,
                 "', which is no part of an fwl data set. Remove it yourself."));
  } catch (const fs::filesystem_error& error) {
    log_warn(cat("'", dir, "' cannot be removed: ", error.code().message(), ". Remove it yourself."));
  }
}

}  // namespace fwl
