#include "parallel/deadline.h"

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <utility>

#include "core/base/error.h"
#include "parallel/failure.h"

namespace fwl {
namespace {

std::atomic<const char*> setting_of_groups = "parallel.timeout_s";

}  // namespace

Deadline::Deadline(std::string what, double seconds, std::string setting)
    : thread_([this, what = std::move(what), seconds, setting = std::move(setting)] {
        std::unique_lock lock(mutex_);
        if (changed_.wait_for(lock, std::chrono::duration<double>(seconds), [this] { return over_; })) return;
        constexpr int kCommExit = static_cast<int>(ExitCode::kComm);
        report_failure(kCommExit, cat(what, " waited ", seconds,
                                      " s (a rank did not start, or is gone, and the others cannot go on "
                                      "without it). Look at the other ranks' logs, and start again; ",
                                      setting, " allows more seconds."));
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
  const char* text = std::getenv(kSessionTimeoutSetting);
  const double seconds = text == nullptr ? 0 : std::atof(text);
  return seconds > 0 ? seconds : 600;
}

const char* timeout_setting() {
  return setting_of_groups;
}

void name_timeout_setting(const char* setting) {
  setting_of_groups = setting;
}

}  // namespace fwl
