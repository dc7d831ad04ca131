#include "launch/run_room.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <limits>
#include <random>
#include <thread>
#include <utility>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/host.h"
#include "core/base/log.h"
#include "core/base/system_error.h"
#include "parallel/texts.h"

namespace fwl {
namespace {

namespace fs = std::filesystem;

// As long as ".writing-step-N/tokenizer.model.tmp-PID" with the longest numbers.
constexpr size_t kLongestName = 80;

std::string size_text(double bytes) {
  char text[32];
  const bool large = bytes >= 1e9;
  std::snprintf(text, sizeof text, "%.3g %s", bytes / (large ? 1e9 : 1e6), large ? "GB" : "MB");
  return text;
}

double room_in(const std::string& checkpoints_dir) {
  return free_bytes(checkpoints_dir).value_or(std::numeric_limits<double>::max());
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

constexpr const char* kChooseAnother =
    "Choose a run.dir that can be written, with a shorter path where that is the cause.";

void make_and_probe(const std::string& checkpoints_dir) {
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
  if (problem != 0)
    refuse_folder(problem,
                  cat("'", checkpoints_dir, "' cannot take checkpoints (what is trained could not be saved)"),
                  kChooseAnother);
  if (is_new) sync_above(checkpoints_dir);
}

// A file of this rank's own, for as long as it is asked about.
class ProbeFile {
 public:
  explicit ProbeFile(std::string path) : path_(std::move(path)) {}
  ~ProbeFile() {
    if (written_) ::unlink(path_.c_str());
  }
  ProbeFile(const ProbeFile&) = delete;
  ProbeFile& operator=(const ProbeFile&) = delete;
  const std::string& path() const { return path_; }

  // The errno of what failed; 0 when it was written.
  int write(const std::string& word) {
    const int fd = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) return errno;
    written_ = true;
    const int error = ::write(fd, word.data(), word.size()) < 0 ? errno : 0;
    const int at_end = ::close(fd) < 0 ? errno : 0;  // where some file servers say that the disk is full
    return error != 0 ? error : at_end;
  }

 private:
  std::string path_;
  bool written_ = false;
};

// A file server's client may know an older state of a folder for some seconds.
void require_seen(const std::string& probe, const std::string& word, const std::string& who,
                  const std::string& checkpoints_dir) {
  constexpr int kTries = 30;
  for (int tried = 0; tried < kTries; ++tried) {
    try {
      if (read_file(probe, "probe of run.dir") == word) return;
    } catch (const SystemError& error) {
      if (!error.is_missing())
        refuse_folder(error.number(), cat(who, " cannot read what rank 0 writes in '", checkpoints_dir, "'"),
                      "Choose a run.dir that all hosts can read and write.");
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  throw ConfigError(
      cat(who, " does not see what rank 0 writes in '", checkpoints_dir,
          "' (every rank writes its part of each checkpoint there; in folders of each host's own "
          "nothing could be saved). Choose a run.dir on a disk that all hosts share, under the same "
          "path on each."));
}

}  // namespace

void refuse_folder(int error, const std::string& problem, const std::string& advice) {
  const SystemError refused(error, problem);
  if (refused.may_pass()) throw refused;
  throw ConfigError(cat(problem, ": ", system_words(error), ". ", advice));
}

void require_writable(const std::string& checkpoints_dir) {
  patiently([&] { make_and_probe(checkpoints_dir); });
}

void require_shared(const std::string& checkpoints_dir, Communicator& group) {
  if (group.size() == 1) return;
  std::random_device random;
  const std::string word = broadcast_text(group, cat(random(), "-", random()));
  ProbeFile probe(checkpoints_dir + "/.writing-probe-" + word);
  on_all_ranks(group, [&] {
    const int error = group.rank() == 0 ? probe.write(word) : 0;
    if (error != 0) refuse_folder(error, cat("'", checkpoints_dir, "' cannot be written"), kChooseAnother);
  });
  on_all_ranks(group, [&] {
    if (group.rank() == 0) return;
    const std::string who = cat("host ", host_name());  // on_all_ranks names the rank
    require_seen(probe.path(), word, who, checkpoints_dir);
    ProbeFile own(cat(probe.path(), ".", group.rank()));
    if (const int error = own.write(word); error != 0)
      refuse_folder(
          error, cat(who, " cannot write into '", checkpoints_dir, "'"),
          "Every rank writes its part of each checkpoint there: choose a run.dir that all hosts can write.");
  });
}

void require_room(const std::string& checkpoints_dir, int64_t bytes) {
  const double have = room_in(checkpoints_dir), want = static_cast<double>(bytes);
  require<UnavailableError>(have >= want, "'", checkpoints_dir, "': a checkpoint needs ", size_text(want),
                            ", the disk has ", size_text(have),
                            " free. Make room, or choose another run.dir.");
}

int64_t most_kept(Retention retention, int64_t saves, int64_t kept_for_good) {
  // The old ones go after the new one is there.
  return retention.newest == 0 ? saves : std::min(saves, retention.newest + 1 + kept_for_good);
}

void warn_of_little_room(const std::string& checkpoints_dir, int64_t bytes, int64_t count) {
  const double have = room_in(checkpoints_dir),
               want = static_cast<double>(bytes) * static_cast<double>(count);
  if (have < want)
    log_warn(cat(
        "'", checkpoints_dir, "': the run will keep up to ", count, " new checkpoints at a time, ",
        size_text(want), "; the disk has ", size_text(have),
        " free (saves will fail when it is full, training goes on). Make room, or lower checkpoints.keep."));
}

}  // namespace fwl
