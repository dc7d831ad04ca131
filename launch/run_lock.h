// Exclusive use of a run's folder, held by rank 0 for as long as its process lives. The lock is the kernel's
// (flock on RUN/lock), so it goes with the process, however that ends; the file's content says who holds it.
#pragma once

#include <memory>
#include <string>

#include "parallel/communicator.h"

namespace fwl {

class RunLock {
 public:
  // Makes the folder when it does not exist. Throws Interrupted naming the holder when another process has
  // the lock now, as refuse_folder() (run_room.h) when the folder cannot be made or written.
  explicit RunLock(const std::string& run_dir);
  ~RunLock();
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

 private:
  int fd_ = -1;
  std::string path_;
};

// Collective over `group`; the lock is rank 0's, the others get none. Tries for at most `wait_s` seconds, and
// says whom it waits for: a server may keep the lock of a dead host for a minute. Throws, on all ranks,
// Interrupted when the time is over or a stop signal came, and what RunLock throws.
std::unique_ptr<RunLock> wait_for_run_lock(const std::string& run_dir, double wait_s, Communicator& group);

}  // namespace fwl
