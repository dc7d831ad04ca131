#include "emulation.h"

#include <ucontext.h>

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <vector>

namespace emulation {

Index thread_index, block_index, grid_size, block_size;

namespace {

constexpr size_t kStackBytes = 128 << 10;

enum class State { kReady, kAtBlockBarrier, kAtWarpBarrier, kEnded };

struct Thread {
  ucontext_t context;
  std::unique_ptr<unsigned char[]> stack;
  State state = State::kEnded;
  unsigned char slot[8];
};

// The block that runs.
std::vector<Thread> threads;
const std::function<void()>* body = nullptr;
ucontext_t scheduler;
alignas(16) unsigned char shared[kSharedBytes];

void enter() {
  (*body)();
  threads[thread_index.x].state = State::kEnded;  // and goes on at uc_link, the scheduler
}

void begin(Thread& thread) {
  if (!thread.stack) thread.stack = std::make_unique<unsigned char[]>(kStackBytes);
  getcontext(&thread.context);
  thread.context.uc_stack.ss_sp = thread.stack.get();
  thread.context.uc_stack.ss_size = kStackBytes;
  thread.context.uc_link = &scheduler;
  makecontext(&thread.context, enter, 0);
  thread.state = State::kReady;
}

void wait(State at) {
  Thread& self = threads[thread_index.x];
  self.state = at;
  swapcontext(&self.context, &scheduler);
}

// Lets threads [first, last) go on where all that have not ended wait at `at`.
bool release(size_t first, size_t last, State at) {
  bool any = false;
  for (size_t t = first; t < last; ++t) {
    if (threads[t].state == State::kEnded) continue;
    if (threads[t].state != at) return false;
    any = true;
  }
  for (size_t t = first; any && t < last; ++t)
    if (threads[t].state == at) threads[t].state = State::kReady;
  return any;
}

void run_block(size_t count) {
  for (size_t t = 0; t < count; ++t) begin(threads[t]);
  for (;;) {
    for (size_t t = 0; t < count; ++t) {
      if (threads[t].state != State::kReady) continue;
      thread_index.x = static_cast<unsigned>(t);
      swapcontext(&scheduler, &threads[t].context);
    }
    bool goes_on = release(0, count, State::kAtBlockBarrier);
    for (size_t warp = 0; warp < count; warp += 32)
      goes_on |= release(warp, std::min(warp + 32, count), State::kAtWarpBarrier);
    if (goes_on) continue;
    for (size_t t = 0; t < count; ++t)
      if (threads[t].state != State::kEnded)
        throw std::logic_error("a kernel's threads wait at different barriers (some would wait for ever)");
    return;
  }
}

}  // namespace

unsigned char* dynamic_shared() {
  return shared;
}
void* slot_of_thread(unsigned thread) {
  return threads[thread].slot;
}
void wait_for_block() {
  wait(State::kAtBlockBarrier);
}
void wait_for_warp() {
  wait(State::kAtWarpBarrier);
}

void run(unsigned blocks, unsigned count, size_t shared_bytes, const std::function<void()>& thread) {
  if (shared_bytes > kSharedBytes || count > 1024 || count == 0)
    throw std::logic_error("a launch of more threads or shared memory than a block has");
  if (threads.size() < count) threads.resize(count);
  body = &thread;
  grid_size.x = blocks;
  block_size.x = count;
  for (unsigned b = 0; b < blocks; ++b) {
    std::memset(shared, 0xff, sizeof shared);
    block_index.x = b;
    run_block(count);
  }
}

}  // namespace emulation
