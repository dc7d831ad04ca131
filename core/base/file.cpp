#include "core/base/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <filesystem>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/new_file.h"
#include "core/base/system_error.h"

namespace fwl {
namespace {

namespace fs = std::filesystem;

constexpr size_t kRoom = size_t{1} << 16;

// Closed by itself; -1 when opening failed, with errno in error().
class FileDescriptor {
 public:
  FileDescriptor(const std::string& path, int flags)
      : fd_(::open(path.c_str(), flags | O_CLOEXEC, 0666)), error_(fd_ < 0 ? errno : 0) {}
  ~FileDescriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  int get() const { return fd_; }
  int error() const { return error_; }

 private:
  int fd_, error_;
};

// The errno of what `call` did; 0 when it succeeded.
template <typename Call>
int error_of(const Call& call) {
  while (call() < 0) {
    if (errno != EINTR) return errno;
  }
  return 0;
}

void require_no_error(int error, const char* doing, const std::string& path) {
  if (error != 0)
    throw DataError(cat(doing, " '", path, "' failed: ", system_words(error), ". ", advice_for(error)));
}

std::string read_once(const std::string& path, const std::string& what, int64_t most_bytes) {
  const auto unavailable = [&](int error) {
    return SystemError(error, cat(what, " '", path, "' cannot be read"));
  };
  struct stat status {};
  // Before it is opened: that of a pipe waits for a writer.
  if (::stat(path.c_str(), &status) != 0) throw unavailable(errno);
  require<DataError>(S_ISREG(status.st_mode), what, " '", path, "' is no file. Check the path.");
  const FileDescriptor file(path, O_RDONLY);
  if (file.error() != 0) throw unavailable(file.error());
  // As long as it is, and some room to see its end; files of /proc have no length.
  const auto length = static_cast<size_t>(std::min<int64_t>(status.st_size, most_bytes));
  std::string content;
  content.reserve(length + 2 * kRoom);
  for (ssize_t got = 1; got > 0;) {
    require<DataError>(static_cast<int64_t>(content.size()) <= most_bytes, what, " '", path,
                       "' has more than ", most_bytes, " bytes (it is something else). Check the path.");
    const size_t done = content.size();
    content.resize(std::max(done, length) + kRoom);
    const int error =
        error_of([&] { return got = ::read(file.get(), content.data() + done, content.size() - done); });
    if (error != 0) throw unavailable(error);
    content.resize(done + static_cast<size_t>(got));
  }
  return content;
}

// Of a folder's sync, on file systems that have none (CIFS, some of FUSE), or in a folder that may be written
// but not read.
bool has_no_sync(int error) {
  return error == EINVAL || error == EOPNOTSUPP || error == ENOTSUP || error == ENOSYS || error == EISDIR ||
         error == EACCES || error == EPERM;
}

void say_once(const std::string& path, int error) {
  static std::atomic<bool> said = false;
  if (!said.exchange(true))
    log_warn(cat("the folder '", path, "' cannot be synced: ", system_words(error),
                 " (after a power cut its newest files may be missing). Nothing needs to be done; this is "
                 "said once."));
}

}  // namespace

std::string read_file(const std::string& path, const std::string& what, int64_t most_bytes) {
  return patiently([&] { return read_once(path, what, most_bytes); });
}

bool leads_outside(const std::string& dir, const std::string& file) {
  std::error_code error;
  fs::path path = dir;
  bool is_linked = false;
  for (const fs::path& part : fs::path(file)) {
    path /= part;
    is_linked = is_linked || fs::is_symlink(path, error);
  }
  if (!is_linked) return false;
  const fs::path folder = fs::canonical(dir, error);
  const fs::path target = error ? fs::path() : fs::canonical(path, error);
  if (error) return false;  // opening it will say what is wrong
  const fs::path relative = target.lexically_relative(folder);
  return relative.empty() || *relative.begin() == "..";
}

void require_replaceable(const std::string& path) {
  require<DataError>(!fs::exists(path) || fs::is_regular_file(path), "'", path,
                     "' is there and is no regular file (it would be replaced, a device too). Choose another "
                     "file.");
}

void publish_file(const std::string& path, const std::string& content) {
  NewFile file(path);
  file.write(content);
  file.publish();
}

void sync_path(const std::string& path) {
  const FileDescriptor file(path, O_RDONLY);
  const int error = file.error() != 0 ? file.error() : error_of([&] { return ::fsync(file.get()); });
  if (error != 0 && has_no_sync(error) && fs::is_directory(path)) return say_once(path, error);
  require_no_error(error, "syncing", path);
}

}  // namespace fwl
