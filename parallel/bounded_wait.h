// A wait that polls, rests between polls, and ends with an error instead of never.
#pragma once

#include "core/base/clock.h"
#include "parallel/watchdog.h"

namespace fwl {

class BoundedWait {
 public:
  // Rests yield the core for `yield_for_s` (not where the cores are shared), then sleep `nap_us` each.
  struct Rest {
    double yield_for_s;
    int nap_us;
  };

  // `watchdog` may be null: then an error cannot say who is late, and says `otherwise` ("for this GPU (it
  // hangs). Restart ...").
  BoundedWait(double timeout_s, Rest rest, Watchdog* watchdog, const char* otherwise)
      : timeout_s_(timeout_s), rest_(rest), watchdog_(watchdog), otherwise_(otherwise) {}

  // Call it after each poll that found nothing. Throws CommError when the time is over, or when a member of
  // the operation's group is gone for certain, or stopped and the group's own time is over (`timeout_s` may
  // be longer, for those that are busy with a disk), with a message that names the operation and who has not
  // arrived. The later a rank comes in its group, the longer it leaves that to those before it
  // (Watchdog::patience_s).
  void rest(const Operation& operation);

 private:
  double patience_s(const Operation& operation) const;

  double timeout_s_;
  Rest rest_;
  Watchdog* watchdog_;
  const char* otherwise_;
  double start_s_ = now_s();
  double next_look_s_ = 2;  // a wait this long is suspicious
  int looks_at_gone_ = 0;   // in a row that found a member's process gone
  int looks_at_stopped_ = 0;
};

}  // namespace fwl
