// Exclusive locks on open files (flock): the kernel's, so they go with the process, however that ends.
#pragma once

#include <string>

namespace fwl {

enum class FileLock {
  kOurs,
  kTaken,   // another process has it
  kGone,    // ours, but `path` is another file by now, or none: nobody else will find this one
  kNoLocks  // the file system has none
};

// Tries to lock the open file `fd`, which was found at `path`. Closing it ends the lock.
FileLock lock_file(int fd, const std::string& path);

}  // namespace fwl
