#include "core/base/new_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <utility>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/system_error.h"

namespace fwl {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 16;
constexpr int kMostNames = 99;  // of one process for one file: the endings are 16 bytes at most

void require_no_error(int error, const char* doing, const std::string& path) {
  if (error != 0)
    throw DataError(cat(doing, " '", path, "' failed: ", system_words(error), ". ", advice_for(error)));
}

}  // namespace

NewFile::NewFile(std::string path) : path_(std::move(path)) {
  require_replaceable(path_);
  int error = EEXIST;
  for (int n = 1; n <= kMostNames && error == EEXIST; ++n) {
    temporary_ = n == 1 ? cat(path_, ".tmp-", ::getpid()) : cat(path_, ".tmp-", ::getpid(), "-", n);
    file_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    error = file_ < 0 ? errno : 0;
  }
  require_no_error(error, "opening", temporary_);
}

NewFile::~NewFile() {
  if (file_ < 0) return;
  ::close(file_);
  std::error_code ignored;
  std::filesystem::remove(temporary_, ignored);
}

void NewFile::write(std::string_view bytes) {
  if (buffer_.size() + bytes.size() > kBufferBytes) flush();
  if (bytes.size() > kBufferBytes) return write_out(bytes);
  buffer_.append(bytes);
}

void NewFile::flush() {
  write_out(buffer_);
  buffer_.clear();
}

void NewFile::write_out(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t wrote = ::write(file_, bytes.data(), bytes.size());
    const int error = wrote < 0 ? errno : 0;
    if (error == EINTR) continue;
    require_no_error(error, "writing", temporary_);
    bytes.remove_prefix(static_cast<size_t>(wrote));
  }
}

void NewFile::publish() {
  flush();
  int error = 0;
  do {
    error = ::fsync(file_) < 0 ? errno : 0;
  } while (error == EINTR);
  require_no_error(error, "syncing", temporary_);
  std::error_code failure;
  std::filesystem::rename(temporary_, path_, failure);
  require<DataError>(!failure, "renaming '", temporary_, "' to '", path_, "' failed: ", failure.message(),
                     ". Choose another file.");
  ::close(std::exchange(file_, -1));
  const std::string folder = std::filesystem::path(path_).parent_path().string();
  sync_path(folder.empty() ? "." : folder);
}

}  // namespace fwl
