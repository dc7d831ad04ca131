#include "parallel/bounded_wait.h"

#include <sched.h>

#include <chrono>
#include <thread>

#include "core/base/error.h"
#include "core/base/waiting.h"

namespace fwl {
namespace {

// Bounds the waits that are longer than the group's own: those for disks (TimeoutScope).
constexpr const char* kDiskSetting = "checkpoints.timeout_s";

}  // namespace

double BoundedWait::patience_s(const Operation& operation) const {
  return watchdog_ != nullptr ? watchdog_->patience_s(operation.group) : 0;
}

void BoundedWait::rest(const Operation& operation) {
  const double elapsed_s = now_s() - start_s_;
  const bool is_over = elapsed_s >= timeout_s_ && elapsed_s >= timeout_s_ + patience_s(operation);
  bool give_up = is_over;
  if (watchdog_ != nullptr && elapsed_s >= next_look_s_) {
    next_look_s_ += 1;
    // What a member sent before it ended may still arrive: one more round of polls.
    looks_at_gone_ = watchdog_->gone_member(operation.group) >= 0 ? looks_at_gone_ + 1 : 0;
    give_up = give_up || looks_at_gone_ > 1 + patience_s(operation);
    // A disk keeps nobody stopped.
    const bool is_late = elapsed_s >= watchdog_->timeout_s(operation.group) + patience_s(operation);
    looks_at_stopped_ =
        is_late && watchdog_->stopped_member(operation.group) >= 0 ? looks_at_stopped_ + 1 : 0;
    give_up = give_up || looks_at_stopped_ > 1;
  }
  if (give_up) {
    require<CommError>(watchdog_ != nullptr, operation.what, " (operation ", operation.number, ") waited ",
                       elapsed_s, " s ", otherwise_);
    const bool for_disks = is_over && timeout_s_ != watchdog_->timeout_s(operation.group);
    throw CommError(watchdog_->describe_wait(operation, elapsed_s, for_disks ? kDiskSetting : ""));
  }
  if (!waits_passively() && elapsed_s < rest_.yield_for_s) {
    sched_yield();
  } else {
    std::this_thread::sleep_for(std::chrono::microseconds(rest_.nap_us));
  }
}

}  // namespace fwl
