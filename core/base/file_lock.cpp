#include "core/base/file_lock.h"

#include <sys/file.h>
#include <sys/stat.h>

#include <cerrno>

namespace fwl {
namespace {

bool is_at(int fd, const std::string& path) {
  struct stat held = {}, there = {};
  return ::fstat(fd, &held) == 0 && ::stat(path.c_str(), &there) == 0 && held.st_ino == there.st_ino &&
         held.st_dev == there.st_dev;
}

}  // namespace

FileLock lock_file(int fd, const std::string& path) {
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0)
    return errno == EWOULDBLOCK ? FileLock::kTaken : FileLock::kNoLocks;
  return is_at(fd, path) ? FileLock::kOurs : FileLock::kGone;
}

}  // namespace fwl
