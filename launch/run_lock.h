// Exclusive use of a run's folder, held by rank 0 for as long as its process lives. The lock is the kernel's
// (flock on RUN/lock), so it goes with the process, however that ends; the file's content says who holds it.
#pragma once

#include <string>

namespace fwl {

class RunLock {
 public:
  // Makes the folder when it does not exist. Throws ConfigError naming the holder when another process has
  // the lock, or when the folder cannot be made or written.
  explicit RunLock(const std::string& run_dir);
  ~RunLock();
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

 private:
  int fd_ = -1;
  std::string path_;
};

}  // namespace fwl
