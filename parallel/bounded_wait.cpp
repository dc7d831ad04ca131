#include "parallel/bounded_wait.h"

#include <sched.h>

#include <chrono>
#include <thread>

#include "core/base/error.h"
#include "core/base/waiting.h"

namespace fwl {

void BoundedWait::rest(const Operation& operation) {
  const double elapsed_s = now_s() - start_s_;
  bool give_up = elapsed_s >= timeout_s_;
  if (watchdog_ != nullptr && elapsed_s >= next_look_s_) {
    next_look_s_ += 1;
    give_up = give_up || watchdog_->gone_member(operation.group) >= 0;
  }
  if (give_up) {
    throw CommError(watchdog_ != nullptr ? watchdog_->describe_wait(operation, elapsed_s)
                                         : cat(operation.what, " (operation ", operation.number, ") waited ",
                                               elapsed_s, " s ", otherwise_));
  }
  if (!waits_passively() && elapsed_s < rest_.yield_for_s) {
    sched_yield();
  } else {
    std::this_thread::sleep_for(std::chrono::microseconds(rest_.nap_us));
  }
}

}  // namespace fwl
