/* A library to preload (LD_PRELOAD) into a program under test. It makes file operations fail or slow:
 *
 *   FWL_FAULT=OPERATION:ERROR:PART   each OPERATION (open, create, read, write, fsync, rename, renameat2, mkdir, flock) on a path
 *                                    that holds PART fails with ERROR (a name of the table below, or a number).
 *                                    PART may be empty; PART$ must end the path
 *   FWL_FAULT_FROM=N                 from the N-th such operation of the process on (default 1)
 *   FWL_FAULT_COUNT=N                for N of them (default: all)
 *   FWL_FAULT_EVERY=N                every N-th of them alone
 *   FWL_FAULT_RANK=R                 all of it in rank R of an Open MPI job alone
 *   FWL_FAULT_SLOW_US=N              every write on a path that holds FWL_FAULT_SLOW_PART takes N microseconds longer
 *
 * read stands for read and pread, write for write and pwrite. Paths of descriptors come from /proc/self/fd.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static atomic_long matched;

static long number_of(const char* variable, long otherwise) {
  const char* text = getenv(variable);
  return text ? atol(text) : otherwise;
}

static int error_of(const char* name) {
  static const struct {
    const char* name;
    int number;
  } known[] = {{"EIO", EIO},       {"ENOSPC", ENOSPC},       {"EROFS", EROFS},   {"EACCES", EACCES},
               {"EMFILE", EMFILE}, {"ENFILE", ENFILE},       {"ENOMEM", ENOMEM}, {"ESTALE", ESTALE},
               {"EPERM", EPERM},   {"ETIMEDOUT", ETIMEDOUT}, {"EINVAL", EINVAL}, {"EDQUOT", EDQUOT},
               {"ENOSYS", ENOSYS}, {"EWOULDBLOCK", EWOULDBLOCK}, {"EOPNOTSUPP", EOPNOTSUPP}};
  const size_t length = strcspn(name, ":");
  for (size_t i = 0; i < sizeof known / sizeof *known; ++i)
    if (strlen(known[i].name) == length && strncmp(name, known[i].name, length) == 0) return known[i].number;
  return atoi(name);
}

static int is_at(const char* path, const char* part) {
  const size_t length = strlen(part);
  if (length == 0 || part[length - 1] != '$') return strstr(path, part) != NULL;
  const size_t all = strlen(path);
  return all >= length - 1 && strncmp(path + all - (length - 1), part, length - 1) == 0;
}

static int is_meant(void) {
  const char *wanted = getenv("FWL_FAULT_RANK"), *rank = getenv("OMPI_COMM_WORLD_RANK");
  return !wanted || (rank && strcmp(wanted, rank) == 0);
}

/* The error with which the operation must fail, or 0. */
static int fault(const char* operation, const char* path) {
  const char* wanted = getenv("FWL_FAULT");
  const size_t length = strlen(operation);
  if (!wanted || strncmp(wanted, operation, length) != 0 || wanted[length] != ':' || !is_meant()) return 0;
  const char* error = wanted + length + 1;
  const char* part = strchr(error, ':');
  if (!part || !is_at(path, part + 1)) return 0;
  const long from = number_of("FWL_FAULT_FROM", 1), count = number_of("FWL_FAULT_COUNT", LONG_MAX);
  const long number = atomic_fetch_add(&matched, 1) + 1;
  if (number % number_of("FWL_FAULT_EVERY", 1) != 0) return 0;
  return number >= from && number - from < count ? error_of(error) : 0;
}

static void slow(const char* path) {
  const char* part = getenv("FWL_FAULT_SLOW_PART");
  if (part && strstr(path, part) && is_meant()) usleep((useconds_t)number_of("FWL_FAULT_SLOW_US", 0));
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

/* open: to be read; create: all others. */
#define OPEN_OR_FAIL(path, flags, call)                                \
  va_list arguments;                                                   \
  va_start(arguments, flags);                                          \
  const mode_t mode = (mode_t)va_arg(arguments, int);                  \
  va_end(arguments);                                                   \
  const int error = fault((flags & O_ACCMODE) == O_RDONLY ? "open" : "create", path); \
  if (error) {                                                         \
    errno = error;                                                     \
    return -1;                                                         \
  }                                                                    \
  return call

int open(const char* path, int flags, ...) {
  FIND_REAL(open);
  OPEN_OR_FAIL(path, flags, real(path, flags, mode));
}

int open64(const char* path, int flags, ...) {
  FIND_REAL(open64);
  OPEN_OR_FAIL(path, flags, real(path, flags, mode));
}

int openat(int folder, const char* path, int flags, ...) {
  FIND_REAL(openat);
  OPEN_OR_FAIL(path, flags, real(folder, path, flags, mode));
}

int openat64(int folder, const char* path, int flags, ...) {
  FIND_REAL(openat64);
  OPEN_OR_FAIL(path, flags, real(folder, path, flags, mode));
}

ssize_t read(int fd, void* data, size_t bytes) {
  FIND_REAL(read);
  char path[PATH_MAX + 1];
  FAIL_OR(path_of(fd, path), "read", real(fd, data, bytes));
}

ssize_t pread(int fd, void* data, size_t bytes, off_t offset) {
  FIND_REAL(pread);
  char path[PATH_MAX + 1];
  FAIL_OR(path_of(fd, path), "read", real(fd, data, bytes, offset));
}

ssize_t pread64(int fd, void* data, size_t bytes, off64_t offset) {
  FIND_REAL(pread64);
  char path[PATH_MAX + 1];
  FAIL_OR(path_of(fd, path), "read", real(fd, data, bytes, offset));
}

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

int flock(int fd, int operation) {
  FIND_REAL(flock);
  char path[PATH_MAX + 1];
  FAIL_OR(path_of(fd, path), "flock", real(fd, operation));
}
