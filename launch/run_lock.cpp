#include "launch/run_lock.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <sstream>
#include <thread>
#include <utility>

#include "core/base/clock.h"
#include "core/base/error.h"
#include "core/base/log.h"
#include "launch/signals.h"
#include "parallel/host.h"

namespace fwl {
namespace {

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

// The holder has not written its name yet when it has only just come.
[[noreturn]] void refuse(const std::string& path, const Holder& holder) {
  const std::string dir = std::filesystem::path(path).parent_path().string();
  const std::string who = holder.pid > 0
                              ? cat("process ", holder.pid, " on ", holder.host, " since ", holder.started)
                              : std::string("another process");
  throw Interrupted(cat("run.dir '", dir, "' is in use by ", who,
                        " (two jobs would overwrite each other's checkpoints and log)."));
}

// Without flock only the content can say: it is believed when it names a live process of this host.
void decide_by_content(int fd, const std::string& path) {
  const Holder holder = parse_holder(content_of(fd));
  static bool said = false;
  if (!std::exchange(said, true))
    log_warn(
        cat("'", path,
            "': this file system has no flock, so a second job on the same run.dir is only noticed on the "
            "same host. Do not start two."));
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

void make_folder(const std::string& dir) {
  namespace fs = std::filesystem;
  std::error_code error;
  // A link to a folder that is not there (yet, or any more) stays a link.
  const bool leads_nowhere = fs::is_symlink(dir, error) && !fs::exists(dir, error);
  fs::path target = dir;
  if (leads_nowhere) target = fs::path(dir).parent_path() / fs::read_symlink(dir, error);
  fs::create_directories(target, error);
  require<ConfigError>(!error, "run.dir '", dir, "' cannot be made: ", error.message(),
                       ". Choose a folder that can be written.");
}

}  // namespace

RunLock::RunLock(const std::string& run_dir) : path_(run_dir + "/lock") {
  make_folder(run_dir);
  fd_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  const int problem = errno;
  require<ConfigError>(fd_ >= 0, "run.dir '", run_dir, "' cannot be written: ", std::strerror(problem),
                       ". Choose a folder that can be written.");
  try {
    if (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
      if (errno == EWOULDBLOCK) refuse(path_, parse_holder(content_of(fd_)));
      decide_by_content(fd_, path_);
    } else if (!is_still_at(fd_, path_)) {
      refuse(path_, {});
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

std::unique_ptr<RunLock> wait_for_run_lock(const std::string& run_dir, double wait_s, Communicator& group) {
  const double begun = now_s();
  const bool is_first = group.rank() == 0;
  for (bool said = false;; said = true) {
    std::unique_ptr<RunLock> lock;
    std::string busy;
    try {
      if (is_first) lock = std::make_unique<RunLock>(run_dir);
    } catch (const Interrupted& held) {
      busy = held.what();
    }
    const bool gives_up = (is_first && now_s() - begun >= wait_s) || !stop_signal().empty();
    const std::vector<double> sums = all_reduce_sum(group, {busy.empty() ? 0.0 : 1.0, gives_up ? 1.0 : 0.0});
    if (sums[0] == 0) return lock;
    if (sums[1] > 0)
      throw Interrupted(
          cat(busy.empty() ? cat("run.dir '", run_dir, "' is in use.") : busy, " Waited ",
              std::lround(now_s() - begun),
              " s (run.lock_wait_s). Start again when it has ended, or choose another run.dir (exit "
              "code 75)."));
    if (is_first && !said) log_info(cat(busy, " Waiting for at most ", wait_s, " s (run.lock_wait_s)."));
    std::this_thread::sleep_for(std::chrono::duration<double>(std::min(0.5, wait_s)));
  }
}

}  // namespace fwl
