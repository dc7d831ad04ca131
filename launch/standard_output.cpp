#include "launch/standard_output.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <iostream>

#include "core/base/error.h"
#include "core/base/system_error.h"

namespace fwl {
namespace {

bool reader_is_gone() {
  pollfd out{STDOUT_FILENO, POLLOUT, 0};
  return ::poll(&out, 1, 0) > 0 && (out.revents & (POLLERR | POLLHUP)) != 0;
}

// Why text was lost: the stream remembers only that it was. 0: it would go through by now.
int present_error() {
  std::clearerr(stdout);
  const bool fails = std::fputc('\n', stdout) == EOF || std::fflush(stdout) != 0;
  return fails ? errno : 0;
}

}  // namespace

void prepare_standard_streams() {
  std::signal(SIGPIPE, SIG_IGN);
  // Opened the wrong way round on purpose: reading from it, or writing to it, fails as it did when closed.
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (::fcntl(fd, F_GETFD) < 0 && errno == EBADF)
      (void)!::open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

void finish_stdout() {
  std::cout.flush();
  int error = std::fflush(stdout) == 0 ? 0 : errno;
  if (error == 0 && std::ferror(stdout) == 0 && std::cout.good()) return;
  if (reader_is_gone() || error == EPIPE) return;
  if (error == 0) error = present_error();
  constexpr const char* kProblem = "standard output could not be written";
  constexpr const char* kAdvice =
      " (part of what was printed is lost; files that the command wrote are whole). Make room, or send it "
      "elsewhere.";
  throw UnavailableError(cat(kProblem, error == 0 ? "" : ": " + system_words(error), kAdvice));
}

void require_reader() {
  if (reader_is_gone()) throw ReaderGone();
}

}  // namespace fwl
