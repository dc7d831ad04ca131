// A thread that makes items ahead of their use, in order: item k is make(k), k = 0, 1, ...
//
// One thread makes, one thread takes. `make` runs on the prefetcher's own thread alone, so what it captures
// needs no locks. What it throws comes out of the next() that would have given the item, and of all later
// ones.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>

namespace fwl {

template <typename Item>
class Prefetcher {
 public:
  // At most `depth` items wait to be taken.
  Prefetcher(std::function<Item(int64_t)> make, size_t depth)
      : make_(std::move(make)), depth_(depth), thread_([this] { work(); }) {}
  ~Prefetcher() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }
  Prefetcher(const Prefetcher&) = delete;
  Prefetcher& operator=(const Prefetcher&) = delete;

  Item next() {
    const auto start = std::chrono::steady_clock::now();
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return !ready_.empty() || failure_; });
    waited_s_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (ready_.empty()) std::rethrow_exception(failure_);
    Item item = std::move(ready_.front());
    ready_.pop_front();
    lock.unlock();
    changed_.notify_all();
    return item;
  }
  // Seconds that next() has waited so far.
  double waited_s() const { return waited_s_; }

 private:
  void work() {
    for (int64_t k = 0;; ++k) {
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return stop_ || ready_.size() < depth_; });
        if (stop_) return;
      }
      try {
        Item item = make_(k);
        const std::lock_guard lock(mutex_);
        ready_.push_back(std::move(item));
      } catch (...) {
        const std::lock_guard lock(mutex_);
        failure_ = std::current_exception();
      }
      changed_.notify_all();
      if (failure_) return;
    }
  }

  std::function<Item(int64_t)> make_;
  size_t depth_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Item> ready_;
  std::exception_ptr failure_;  // written once, by the thread
  bool stop_ = false;
  double waited_s_ = 0;
  std::thread thread_;  // last: it uses all of the above
};

}  // namespace fwl
