#include "parallel/process_state.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <thread>

namespace fwl {
namespace {

// A child that sleeps, with its place as it would tell it itself.
struct Child {
  ProcessPlace place;
  Child() {
    std::array<int, 2> ends{};
    EXPECT_EQ(pipe(ends.data()), 0);
    const pid_t pid = fork();
    if (pid == 0) {
      const ProcessPlace own = own_process_place();
      (void)!write(ends[1], &own, sizeof own);
      for (;;) pause();
    }
    EXPECT_EQ(read(ends[0], &place, sizeof place), static_cast<ssize_t>(sizeof place));
    EXPECT_EQ(place.pid, pid);
  }
  ~Child() { end(); }
  void end() {
    if (ended_) return;
    kill(place.pid, SIGKILL);
    waitpid(place.pid, nullptr, 0);
    ended_ = true;
  }

 private:
  bool ended_ = false;
};

ProcessState becomes(ProcessState wanted, const ProcessPlace& place) {
  for (int i = 0; i < 500 && process_state(place, own_process_place()) != wanted; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  return process_state(place, own_process_place());
}

TEST(ProcessState, FollowsAProcessOfTheSameProc) {
  Child child;
  EXPECT_EQ(becomes(ProcessState::kRuns, child.place), ProcessState::kRuns);
  kill(child.place.pid, SIGSTOP);
  EXPECT_EQ(becomes(ProcessState::kStopped, child.place), ProcessState::kStopped);
  kill(child.place.pid, SIGKILL);  // not yet waited for: a zombie
  EXPECT_EQ(becomes(ProcessState::kGone, child.place), ProcessState::kGone);
  child.end();
  EXPECT_EQ(process_state(child.place, own_process_place()), ProcessState::kGone);
}

// What cannot be seen from here is never called gone.
TEST(ProcessState, SaysNothingOfProcessesElsewhere) {
  const ProcessPlace own = own_process_place();
  ASSERT_NE(own.boot, 0u);
  ASSERT_NE(own.pid_space, 0u);
  ProcessPlace gone = own;
  gone.pid = 0x3fffffff;  // above every pid_max
  ASSERT_EQ(process_state(gone, own), ProcessState::kGone);
  struct Row {
    const char* what;
    void (*change)(ProcessPlace*);
  };
  for (const Row& row : {
           Row{"another machine of the same name", [](ProcessPlace* p) { p->boot += 1; }},
           Row{"a machine without boot id", [](ProcessPlace* p) { p->boot = 0; }},
           Row{"another PID namespace", [](ProcessPlace* p) { p->pid_space += 1; }},
           Row{"no own /proc", [](ProcessPlace* p) { p->pid_space = 0; }},
           Row{"an unknown start", [](ProcessPlace* p) { p->start_ticks = 0; }},
       }) {
    ProcessPlace other = gone;
    row.change(&other);
    EXPECT_EQ(process_state(other, own), ProcessState::kUnknown) << row.what;
    EXPECT_EQ(process_state(other, other), row.what == std::string("another machine of the same name") ||
                                                   row.what == std::string("another PID namespace")
                                               ? ProcessState::kGone
                                               : ProcessState::kUnknown)
        << row.what;
  }
}

TEST(ProcessState, ALaterProcessOfTheSameNumberIsAnother) {
  const ProcessPlace own = own_process_place();
  EXPECT_EQ(process_state(own, own), ProcessState::kRuns);
  ProcessPlace earlier = own;
  earlier.start_ticks -= 1;
  EXPECT_EQ(process_state(earlier, own), ProcessState::kGone);
}

TEST(ProcessState, LoopbackIsSharedWithinANetworkNamespace) {
  const ProcessPlace own = own_process_place();
  EXPECT_TRUE(same_loopback(own, own));
  ProcessPlace other = own;
  other.net_space += 1;
  EXPECT_FALSE(same_loopback(own, other));
}

}  // namespace
}  // namespace fwl
