// The end of a wait inside a library that knows no time-out (MPI's set-up and end).
#pragma once

#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>

namespace fwl {

class Deadline {
 public:
  // Unless the object is gone in `seconds`, the process says "`what` waited SECONDS s" and that `setting`
  // allows more, and ends with exit code 4.
  Deadline(std::string what, double seconds, std::string setting);
  ~Deadline();
  Deadline(const Deadline&) = delete;
  Deadline& operator=(const Deadline&) = delete;

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool over_ = false;
  std::thread thread_;
};

// Of the session's start and end, where no config is known: $FWL_SESSION_TIMEOUT_S, or 600.
double session_timeout_s();
inline constexpr const char* kSessionTimeoutSetting = "FWL_SESSION_TIMEOUT_S";

// What the user raises for longer waits in groups of ranks, as messages name it: parallel.timeout_s, unless
// the command has an option of its own. `setting` must outlive the process's waits.
const char* timeout_setting();
void name_timeout_setting(const char* setting);

}  // namespace fwl
