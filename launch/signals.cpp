#include "launch/signals.h"

#include <unistd.h>

#include <atomic>
#include <csignal>

namespace fwl {
namespace {

constexpr int kInterruptedExit = 128 + SIGINT;

std::atomic<int> first_signal = 0;
static_assert(std::atomic<int>::is_always_lock_free, "a signal handler may only touch lock-free atomics");

void note_signal(int number) {
  int none = 0;
  if (!first_signal.compare_exchange_strong(none, number) && number == SIGINT && none == SIGINT)
    ::_exit(kInterruptedExit);
}

}  // namespace

void install_stop_signals() {
  struct sigaction action = {};
  action.sa_handler = note_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;  // reads and writes under way go on
  for (const int number : {SIGTERM, SIGINT, SIGUSR1}) sigaction(number, &action, nullptr);
}

std::string stop_signal() {
  switch (first_signal.load()) {
    case SIGTERM:
      return "SIGTERM";
    case SIGINT:
      return "SIGINT";
    case SIGUSR1:
      return "SIGUSR1";
    default:
      return {};
  }
}

}  // namespace fwl
