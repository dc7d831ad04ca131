#include "launch/run_lock.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <sstream>

#include "core/base/error.h"
#include "core/base/log.h"

namespace fwl {
namespace {

std::string host_name() {
  std::array<char, 256> name = {};
  ::gethostname(name.data(), name.size() - 1);
  return name.data();
}

std::string time_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts = {};
  ::gmtime_r(&now, &parts);
  std::array<char, 32> text = {};
  std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text.data();
}

std::string content_of(int fd) {
  std::array<char, 512> text = {};
  const ssize_t got = ::pread(fd, text.data(), text.size() - 1, 0);
  return got > 0 ? std::string(text.data(), static_cast<size_t>(got)) : std::string();
}

struct Holder {
  std::string host, started;
  long pid = 0;
};

// "host HOST pid PID started TIME"
Holder parse_holder(const std::string& content) {
  Holder holder;
  std::istringstream words(content);
  std::string word;
  words >> word >> holder.host >> word >> holder.pid >> word >> holder.started;
  return holder;
}

[[noreturn]] void refuse(const std::string& path, const Holder& holder) {
  const std::string dir = std::filesystem::path(path).parent_path().string();
  throw ConfigError(cat(
      "run.dir '", dir, "' is in use by process ", holder.pid, " on ", holder.host, " since ", holder.started,
      " (two jobs would overwrite each other's checkpoints and log). Wait for it to end, or choose "
      "another run.dir."));
}

// Without flock only the content can say: it is believed when it names a live process of this host.
void decide_by_content(int fd, const std::string& path) {
  const Holder holder = parse_holder(content_of(fd));
  log_warn(
      cat("'", path,
          "': this file system has no flock, so a second job on the same run.dir is only noticed on the same "
          "host. Do not start two."));
  if (holder.pid > 0 && holder.host == host_name() && holder.pid != ::getpid() &&
      ::kill(static_cast<pid_t>(holder.pid), 0) == 0)
    refuse(path, holder);
}

// The folder may have been renamed between open and flock: then the lock is on another run's file.
bool is_still_at(int fd, const std::string& path) {
  struct stat held = {}, there = {};
  return ::fstat(fd, &held) == 0 && ::stat(path.c_str(), &there) == 0 && held.st_ino == there.st_ino &&
         held.st_dev == there.st_dev;
}

}  // namespace

RunLock::RunLock(const std::string& run_dir) : path_(run_dir + "/lock") {
  std::error_code error;
  std::filesystem::create_directories(run_dir, error);
  require<ConfigError>(!error, "run.dir '", run_dir, "' cannot be made: ", error.message(),
                       ". Choose a folder that can be written.");
  fd_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  require<ConfigError>(fd_ >= 0, "run.dir '", run_dir, "' cannot be written: ", std::strerror(errno),
                       ". Choose a folder that can be written.");
  try {
    if (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
      if (errno == EWOULDBLOCK) refuse(path_, parse_holder(content_of(fd_)));
      decide_by_content(fd_, path_);
    } else if (!is_still_at(fd_, path_)) {
      refuse(path_, {"this host", "this moment", 0});
    }
  } catch (...) {
    ::close(fd_);
    throw;
  }
  const std::string content = cat("host ", host_name(), " pid ", ::getpid(), " started ", time_now(), "\n");
  // The content is for the message of a refused job alone: a full disk must not keep a run from starting.
  if (::ftruncate(fd_, 0) != 0 || ::pwrite(fd_, content.data(), content.size(), 0) < 0)
    log_warn(cat("'", path_, "' could not be written: ", std::strerror(errno), "."));
}

// The file stays: removing it would let two later jobs lock two files of one name.
RunLock::~RunLock() {
  ::close(fd_);
}

}  // namespace fwl
