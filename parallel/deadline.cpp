#include "parallel/deadline.h"

#include <chrono>
#include <cstdlib>
#include <utility>

#include "core/base/error.h"
#include "parallel/failure.h"

namespace fwl {

Deadline::Deadline(std::string what, double seconds)
    : thread_([this, what = std::move(what), seconds] {
        std::unique_lock lock(mutex_);
        if (changed_.wait_for(lock, std::chrono::duration<double>(seconds), [this] { return over_; })) return;
        constexpr int kCommExit = static_cast<int>(ExitCode::kComm);
        report_failure(kCommExit, cat(what, " waited ", seconds,
                                      " s (a rank did not start, or is gone, and the others cannot go on "
                                      "without it). Look at the other ranks' logs, and start again; "
                                      "FWL_SESSION_TIMEOUT_S allows more seconds."));
        exit_when_finished(kCommExit);
      }) {}

Deadline::~Deadline() {
  {
    const std::lock_guard lock(mutex_);
    over_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

double session_timeout_s() {
  const char* text = std::getenv("FWL_SESSION_TIMEOUT_S");
  const double seconds = text == nullptr ? 0 : std::atof(text);
  return seconds > 0 ? seconds : 600;
}

}  // namespace fwl
