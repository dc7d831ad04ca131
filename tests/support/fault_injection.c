/* A library to preload (LD_PRELOAD) into a program under test. It makes file operations fail or slow:
 *
 *   FWL_FAULT=OPERATION:ERROR:PART   each OPERATION (write, fsync, rename, renameat2, mkdir) on a path that holds
 *                                    PART fails with ERROR (EIO, ENOSPC, EROFS, EACCES, EINVAL); PART may be empty
 *   FWL_FAULT_FROM=N                 from the N-th such operation of the process on (default 1)
 *   FWL_FAULT_COUNT=N                for N of them (default: all)
 *   FWL_FAULT_SLOW_US=N              every write on a path that holds FWL_FAULT_SLOW_PART takes N microseconds longer
 *
 * write stands for write and pwrite. Paths of descriptors come from /proc/self/fd.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_long matched;

static long number_of(const char* variable, long otherwise) {
  const char* text = getenv(variable);
  return text ? atol(text) : otherwise;
}

static int error_of(const char* name) {
  if (strncmp(name, "ENOSPC", 6) == 0) return ENOSPC;
  if (strncmp(name, "EROFS", 5) == 0) return EROFS;
  if (strncmp(name, "EACCES", 6) == 0) return EACCES;
  if (strncmp(name, "EINVAL", 6) == 0) return EINVAL;
  return EIO;
}

/* The error with which the operation must fail, or 0. */
static int fault(const char* operation, const char* path) {
  const char* wanted = getenv("FWL_FAULT");
  const size_t length = strlen(operation);
  if (!wanted || strncmp(wanted, operation, length) != 0 || wanted[length] != ':') return 0;
  const char* error = wanted + length + 1;
  const char* part = strchr(error, ':');
  if (!part || !strstr(path, part + 1)) return 0;
  const long from = number_of("FWL_FAULT_FROM", 1), count = number_of("FWL_FAULT_COUNT", LONG_MAX);
  const long number = atomic_fetch_add(&matched, 1) + 1;
  return number >= from && number - from < count ? error_of(error) : 0;
}

static void slow(const char* path) {
  const char* part = getenv("FWL_FAULT_SLOW_PART");
  if (part && strstr(path, part)) usleep((useconds_t)number_of("FWL_FAULT_SLOW_US", 0));
}

static const char* path_of(int fd, char* path) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t length = readlink(link, path, PATH_MAX);
  path[length > 0 ? length : 0] = 0;
  return path;
}

#define FIND_REAL(function)           \
  static __typeof__(&function) real; \
  if (!real) real = (__typeof__(&function))dlsym(RTLD_NEXT, #function)

#define FAIL_OR(path, operation, otherwise)      \
  const int error = fault(operation, path);      \
  if (error) {                                   \
    errno = error;                               \
    return -1;                                   \
  }                                              \
  return otherwise

ssize_t write(int fd, const void* data, size_t bytes) {
  FIND_REAL(write);
  char path[PATH_MAX + 1];
  slow(path_of(fd, path));
  FAIL_OR(path, "write", real(fd, data, bytes));
}

ssize_t pwrite(int fd, const void* data, size_t bytes, off_t offset) {
  FIND_REAL(pwrite);
  char path[PATH_MAX + 1];
  slow(path_of(fd, path));
  FAIL_OR(path, "write", real(fd, data, bytes, offset));
}

ssize_t pwrite64(int fd, const void* data, size_t bytes, off64_t offset) {
  FIND_REAL(pwrite64);
  char path[PATH_MAX + 1];
  slow(path_of(fd, path));
  FAIL_OR(path, "write", real(fd, data, bytes, offset));
}

int fsync(int fd) {
  FIND_REAL(fsync);
  char path[PATH_MAX + 1];
  FAIL_OR(path_of(fd, path), "fsync", real(fd));
}

int rename(const char* from, const char* to) {
  FIND_REAL(rename);
  FAIL_OR(to, "rename", real(from, to));
}

int renameat2(int from_folder, const char* from, int to_folder, const char* to, unsigned int flags) {
  FIND_REAL(renameat2);
  FAIL_OR(to, "renameat2", real(from_folder, from, to_folder, to, flags));
}

int mkdir(const char* path, mode_t mode) {
  FIND_REAL(mkdir);
  FAIL_OR(path, "mkdir", real(path, mode));
}
