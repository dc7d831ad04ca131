#include "core/base/file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "core/base/error.h"

namespace fwl {
namespace {

class FileDescriptor {
 public:
  FileDescriptor(const std::string& path, int flags) : fd_(::open(path.c_str(), flags, 0666)) {
    require<DataError>(fd_ >= 0, "cannot open '", path, "': ", std::strerror(errno),
                       ". Check the folder and its permissions.");
  }
  ~FileDescriptor() { ::close(fd_); }
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

void write_all(const std::string& path, const std::string& content) {
  FileDescriptor file(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC);
  size_t done = 0;
  while (done < content.size()) {
    const ssize_t wrote = ::write(file.get(), content.data() + done, content.size() - done);
    if (wrote < 0 && errno == EINTR) continue;
    require<DataError>(wrote > 0, "writing '", path, "' failed: ", std::strerror(errno),
                       ". Free space or check the disk.");
    done += static_cast<size_t>(wrote);
  }
  require<DataError>(::fsync(file.get()) == 0, "syncing '", path, "' failed: ", std::strerror(errno),
                     ". Check the disk.");
}

}  // namespace

std::string read_file(const std::string& path, const std::string& what) {
  require<DataError>(std::filesystem::is_regular_file(path), what, " '", path,
                     "' does not exist. Check the path.");
  std::ifstream in(path, std::ios::binary);
  std::stringstream content;
  content << in.rdbuf();
  require<DataError>(in.good(), what, " '", path, "' cannot be read: ", std::strerror(errno),
                     ". Check its permissions.");
  return content.str();
}

void require_replaceable(const std::string& path) {
  require<DataError>(!std::filesystem::exists(path) || std::filesystem::is_regular_file(path), "'", path,
                     "' is there and is no regular file (it would be replaced, a device too). Choose another "
                     "file.");
}

void publish_file(const std::string& path, const std::string& content) {
  require_replaceable(path);
  const std::string temporary = cat(path, ".tmp-", ::getpid());
  try {
    write_all(temporary, content);
    std::error_code error;
    std::filesystem::rename(temporary, path, error);
    require<DataError>(!error, "renaming '", temporary, "' to '", path, "' failed: ", error.message(), ".");
    const std::string folder = std::filesystem::path(path).parent_path().string();
    sync_path(folder.empty() ? "." : folder);
  } catch (...) {
    std::error_code ignored;
    std::filesystem::remove(temporary, ignored);
    throw;
  }
}

void sync_path(const std::string& path) {
  FileDescriptor file(path, O_RDONLY | O_CLOEXEC);
  require<DataError>(::fsync(file.get()) == 0, "syncing '", path, "' failed: ", std::strerror(errno),
                     ". Check the disk.");
}

}  // namespace fwl
