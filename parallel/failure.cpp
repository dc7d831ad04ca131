#include "parallel/failure.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <utility>

#include "core/base/clock.h"
#include "core/base/error.h"
#include "core/base/log.h"
#include "parallel/launcher.h"
#include "parallel/watchdog.h"

namespace fwl {
namespace {

constexpr int kCommExit = static_cast<int>(ExitCode::kComm);
// After the failure. Later than the grace: until then the failing rank itself waits for the others, and has
// MPI end them.
constexpr double kArmed_s = kFailureGrace_s + 2;
// The first announcement goes along a tree, whose ranks may be dead; this long after it the rest are told
// directly.
constexpr double kTellAgain_s = 0.3;

std::atomic<int> unfinished = 0;

struct Reported {
  std::mutex mutex;
  std::string message;
  bool any = false;
};

Reported& reported() {
  static auto* only = new Reported;  // threads that end the process use it to the last
  return *only;
}

void sleep_s(double seconds) {
  std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
}

}  // namespace

FinishFirst::FinishFirst() {
  ++unfinished;
}
FinishFirst::~FinishFirst() {
  --unfinished;
}

void exit_when_finished(int exit_code) noexcept {
  for (const double end = now_s() + kFailureGrace_s; unfinished > 0 && now_s() < end;) sleep_s(0.01);
  std::_Exit(exit_code);
}

void write_verdict(int exit_code, int rank, const std::string& message) noexcept {
  const char* path = std::getenv("FWL_VERDICT");
  if (path == nullptr || *path == '\0') return;
  const int fd = ::open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd < 0) return;
  std::string line = cat(exit_code, " rank ", rank, ": ", message);
  std::replace(line.begin(), line.end(), '\n', ' ');
  line += '\n';
  // The job ends in any case; a script that finds no verdict has srun's code.
  (void)!::write(fd, line.data(), line.size());
  ::close(fd);
}

void report_failure(int exit_code, const std::string& message) noexcept {
  Reported& r = reported();
  Watchdog* dog = watchdog();
  // What fails because another rank has ended the job needs no words.
  const bool is_echo = dog != nullptr && dog->heard_end() >= 0 && exit_code == kCommExit;
  bool first = false;
  {
    const std::lock_guard lock(r.mutex);
    if (!is_echo && (!r.any || r.message != message)) log_error(message);
    r.message = message;
    first = !std::exchange(r.any, true);
  }
  if (!first) return;
  if (dog == nullptr) return write_verdict(exit_code, rank_of_launcher(process_environment()), message);
  if (!dog->announce_end(exit_code)) return;  // another rank was first: it is told, and armed, already
  write_verdict(exit_code, dog->rank(), message);
  std::thread([exit_code] {
    sleep_s(kTellAgain_s);
    if (Watchdog* still = watchdog()) still->announce_end_to_all();
    sleep_s(kArmed_s - kTellAgain_s);
    exit_when_finished(exit_code);
  }).detach();
}

}  // namespace fwl
