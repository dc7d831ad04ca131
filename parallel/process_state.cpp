#include "parallel/process_state.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <sstream>
#include <string>

#include "core/base/error.h"
#include "core/base/hash.h"

namespace fwl {
namespace {

// The content of a small file of /proc; empty, with `*problem` = errno, when it cannot be read.
std::string read_small(const std::string& path, int* problem) {
  *problem = 0;
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    *problem = errno;
    return {};
  }
  std::array<char, 1024> text{};
  const ssize_t got = ::read(fd, text.data(), text.size() - 1);
  if (got < 0) *problem = errno;
  ::close(fd);
  return got > 0 ? std::string(text.data(), static_cast<size_t>(got)) : std::string();
}

uint64_t inode_of(const char* path) {
  struct stat status {};
  return ::stat(path, &status) == 0 ? status.st_ino : 0;
}

struct Stat {
  char state = '?';
  uint64_t start_ticks = 0;  // field 22 of /proc/PID/stat
};

Stat parse_stat(const std::string& line) {
  // The second field, the program's name in brackets, may hold anything.
  const size_t name_end = line.rfind(')');
  if (name_end == std::string::npos) return {};
  std::istringstream fields(line.substr(name_end + 1));
  Stat stat;
  fields >> stat.state;
  std::string skipped;
  for (int field = 4; field < 22; ++field) fields >> skipped;
  fields >> stat.start_ticks;
  return stat;
}

// A /proc of another PID namespace (unshare --pid without --mount-proc) knows this process by another number.
bool proc_is_own() {
  std::array<char, 32> number{};
  const ssize_t got = ::readlink("/proc/self", number.data(), number.size() - 1);
  return got > 0 && std::atol(number.data()) == ::getpid();
}

}  // namespace

ProcessPlace own_process_place() {
  ProcessPlace place;
  place.pid = static_cast<int32_t>(::getpid());
  int problem = 0;
  const std::string boot = read_small("/proc/sys/kernel/random/boot_id", &problem);
  if (!boot.empty()) place.boot = hash_bytes(boot);
  place.net_space = inode_of("/proc/self/ns/net");
  if (proc_is_own()) {
    place.pid_space = inode_of("/proc/self/ns/pid");
    place.start_ticks = parse_stat(read_small("/proc/self/stat", &problem)).start_ticks;
  }
  return place;
}

ProcessState process_state(const ProcessPlace& other, const ProcessPlace& own) {
  const bool visible = own.boot != 0 && own.boot == other.boot && own.pid_space != 0 &&
                       own.pid_space == other.pid_space && own.start_ticks != 0 && other.start_ticks != 0;
  if (!visible) return ProcessState::kUnknown;
  int problem = 0;
  const std::string line = read_small(cat("/proc/", other.pid, "/stat"), &problem);
  if (problem == ENOENT || problem == ESRCH) return ProcessState::kGone;
  const Stat stat = parse_stat(line);
  if (stat.start_ticks == 0) return ProcessState::kUnknown;
  if (stat.start_ticks != other.start_ticks) return ProcessState::kGone;
  if (stat.state == 'Z' || stat.state == 'X') return ProcessState::kGone;
  return stat.state == 'T' || stat.state == 't' ? ProcessState::kStopped : ProcessState::kRuns;
}

bool same_loopback(const ProcessPlace& a, const ProcessPlace& b) {
  return a.boot != 0 && a.boot == b.boot && a.net_space != 0 && a.net_space == b.net_space;
}

}  // namespace fwl
