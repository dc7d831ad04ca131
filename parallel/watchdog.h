// Who is late. One watchdog per process of a parallel session: a thread with a UDP socket that depends on no
// communicator. It answers other ranks' question "how far are you in group G?", and asks it when a wait here
// has passed its deadline, so that the error can name the ranks that have not arrived. A second thread
// watches operations on GPUs, which no host thread waits for in a way that could time out.
//
// Every group registers itself with its members; every operation is announced by `begin` and `end`.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "parallel/deadline.h"

namespace fwl {

// One operation of one group.
struct Operation {
  int group = -1;      // as registered
  int64_t number = 0;  // in its group, from 1; the same on all members
  std::string what;    // "all_gather of state"
};

// An operation that runs on a GPU.
class GpuOperation {
 public:
  enum class Phase { kQueued, kRunning, kDone };
  virtual ~GpuOperation() = default;
  // Called from the watchdog's thread. Throws CommError when the GPUs report an error.
  virtual Phase phase() = 0;
};

class Watchdog {
 public:
  // Collective over MPI_COMM_WORLD (exchanges addresses). Throws CommError.
  Watchdog(int rank, int size);
  // Local. Ends the thread.
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

  // Groups are registered in the same order on all their members. `members`: world ranks, in group order.
  // `setting`: what the user raises for a longer `timeout_s`.
  int add_group(const std::string& name, const std::vector<int>& members, double timeout_s,
                const std::string& setting = timeout_setting());
  // The next operation of the group has been entered by this rank.
  Operation begin(int group, const std::string& what);
  void end(const Operation& operation);
  // The operation that this rank has not begun yet, under the name of what keeps it.
  Operation next(int group, const std::string& what) const;

  // How many seconds longer than the others' this rank's waits in the group are: 0 for the first member, and
  // the more the later it comes. So the lowest rank that is not late asks and tells all others, and they need
  // not.
  double patience_s(int group) const;
  // The message of a wait that has lasted `waited_s`: operation, number, this rank, who has not arrived, and
  // the `setting` that bounds it (empty: the group's). Asks the group's other members; takes up to 1.5 s.
  std::string describe_wait(const Operation& operation, double waited_s, const std::string& setting = {});
  // A member whose process is for certain gone (same host, no process), or stopped, or -1. Cheap enough to
  // ask every second.
  int gone_member(int group) const;
  int stopped_member(int group) const;
  // As the group was registered.
  double timeout_s(int group) const;

  // Looks after `gpu` until it is done. When it has run for longer than the group's timeout, or
  // reports an error, the job ends: message, `give_up` callbacks, exit code 4 (report_failure).
  void watch(const Operation& operation, std::shared_ptr<GpuOperation> gpu);
  // Called, in the watchdog's thread, before the job is ended: frees GPUs from operations that hang. Returns
  // a number for `remove_give_up`.
  int on_give_up(std::function<void()> callback);
  void remove_give_up(int number);

  // Tells all other processes, by way of some of them, that this one ends the job: each says so and ends
  // itself with the same exit code. False when another rank has been first: then this process ends with that
  // rank's exit code, very soon. Later calls do nothing.
  bool announce_end(int exit_code);
  // The same to each process directly, where announce_end() was first.
  void announce_end_to_all();
  // The exit code with which another rank has ended the job; -1: none has.
  int heard_end() const;
  // Waits until all other processes have ended or are stopped, as far as that can be seen from here, at most
  // `seconds`.
  void wait_for_ends(double seconds) const;
  int rank() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The session's watchdog, or null without a parallel session.
Watchdog* watchdog();

// The ranks to which `rank` passes on what `origin` sends to all of `size`: a tree of fan-out 32 whose root
// is `origin`.
std::vector<int> tree_children(int rank, int origin, int size);

}  // namespace fwl
