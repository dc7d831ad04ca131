#include "launch/run_room.h"

#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <limits>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/log.h"

namespace fwl {
namespace {

namespace fs = std::filesystem;

// As long as ".writing-step-N/tokenizer.model.tmp-PID" with the longest numbers.
constexpr size_t kLongestName = 80;

// What this user may fill; the largest number where the file system does not tell.
double free_bytes(const std::string& folder) {
  struct statvfs space = {};
  if (::statvfs(folder.c_str(), &space) != 0 || space.f_blocks == 0)
    return std::numeric_limits<double>::max();
  return static_cast<double>(space.f_bavail) * static_cast<double>(space.f_frsize);
}

std::string size_text(double bytes) {
  char text[32];
  const bool large = bytes >= 1e9;
  std::snprintf(text, sizeof text, "%.3g %s", bytes / (large ? 1e9 : 1e6), large ? "GB" : "MB");
  return text;
}

// A checkpoint is no safer than the names of the folders above it. One that may not be read cannot be synced.
void sync_above(const std::string& checkpoints_dir) {
  const fs::path run_dir = fs::absolute(checkpoints_dir).parent_path();
  for (const fs::path& folder : {run_dir, run_dir.parent_path()}) {
    try {
      sync_path(folder.string());
    } catch (const Error& error) {
      log_debug(error.what());
    }
  }
}

}  // namespace

void require_writable(const std::string& checkpoints_dir) {
  std::error_code error;
  const bool is_new = fs::create_directories(checkpoints_dir, error);
  int problem = error.value();
  if (!error) {
    std::string probe = checkpoints_dir + "/.writing-probe-";
    probe += std::string(kLongestName - std::strlen(".writing-probe-"), 'x');
    const int fd = ::open(probe.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    problem = fd < 0 ? errno : 0;
    if (fd >= 0) ::close(fd);
    ::unlink(probe.c_str());
  }
  require<ConfigError>(problem == 0, "'", checkpoints_dir,
                       "' cannot take checkpoints: ", std::strerror(problem),
                       " (what is trained could not be saved). Choose a run.dir that can be written, with a "
                       "shorter path where that is the cause.");
  if (is_new) sync_above(checkpoints_dir);
}

void require_room(const std::string& checkpoints_dir, int64_t bytes) {
  const double have = free_bytes(checkpoints_dir), want = static_cast<double>(bytes);
  require<UnavailableError>(have >= want, "'", checkpoints_dir, "': a checkpoint needs ", size_text(want),
                            ", the disk has ", size_text(have),
                            " free. Make room, or choose another run.dir.");
}

int64_t most_kept(Retention retention, int64_t saves, int64_t kept_for_good) {
  // The old ones go after the new one is there.
  return retention.newest == 0 ? saves : std::min(saves, retention.newest + 1 + kept_for_good);
}

void warn_of_little_room(const std::string& checkpoints_dir, int64_t bytes, int64_t count) {
  const double have = free_bytes(checkpoints_dir),
               want = static_cast<double>(bytes) * static_cast<double>(count);
  if (have < want)
    log_warn(cat(
        "'", checkpoints_dir, "': the run will keep up to ", count, " new checkpoints at a time, ",
        size_text(want), "; the disk has ", size_text(have),
        " free (saves will fail when it is full, training goes on). Make room, or lower checkpoints.keep."));
}

}  // namespace fwl
