#include "core/base/system_error.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <system_error>
#include <thread>

namespace fwl {
namespace {

constexpr std::array kPauses_ms = {100, 400, 1600};
constexpr int kMostGivenUp = 3;

template <size_t N>
bool is_one_of(int error, const std::array<int, N>& numbers) {
  return std::find(numbers.begin(), numbers.end(), error) != numbers.end();
}

constexpr std::array kOfServers = {ESTALE,    ETIMEDOUT, EHOSTDOWN,    EHOSTUNREACH, ENETDOWN, ENETUNREACH,
                                   ENOTCONN,  EREMOTEIO, ECONNREFUSED, ECONNRESET,   ENOLINK,  ECONNABORTED,
                                   ESHUTDOWN, ECOMM,     EPROTO,       ENETRESET,    EREMCHG};
constexpr std::array kOfDisks = {EIO, ENODEV, ENXIO, ENOMEDIUM, EUCLEAN, EBADMSG};
constexpr std::array kOfTheMoment = {EMFILE, ENFILE, ENOMEM, EINTR, EAGAIN, EBUSY, ENOLCK, ENOBUFS};

}  // namespace

std::string system_words(int error) {
  return std::generic_category().message(error);
}

std::string advice_for(int error) {
  switch (error) {
    case EMFILE:
      return "This process may not open more files: raise `ulimit -n` and start again.";
    case ENFILE:
      return "This machine may not open more files: end other programs, or raise fs.file-max.";
    case ENOMEM:
    case ENOBUFS:
      return "Free memory, or give the job more.";
    case EACCES:
    case EPERM:
      return "Give this user the right to it (`ls -l`, and of the folders above it), or use another copy.";
    case ENOENT:
    case ENOTDIR:
      return "Check the path, that its disk is mounted, and where links lead.";
    case ELOOP:
      return "Check where its links lead.";
    case ENAMETOOLONG:
      return "Choose a shorter path.";
    case ENOSPC:
    case EDQUOT:
      return "Free space on the disk, or choose another folder.";
    case EROFS:
      return "The disk is read-only: choose another folder.";
    default:
      break;
  }
  if (is_one_of(error, kOfServers))
    return "Check the file server and its mount; start again when it answers.";
  return "Check the disk (`dmesg`) or the file server; start again when it answers.";
}

bool is_unavailable(int error) {
  return error > 0 && !is_one_of(error, std::array{EINVAL, EOVERFLOW, EFBIG, EFAULT, EISDIR});
}

SystemError::SystemError(int error, const std::string& problem)
    : UnavailableError(cat(problem, ": ", system_words(error),
                           error == ENOENT || error == ENOTDIR ? " (nothing lies there). "
                                                               : " (this says nothing about its content). ",
                           advice_for(error))),
      error_(error) {}

bool SystemError::is_missing() const {
  return error_ == ENOENT || error_ == ENOTDIR;
}

bool SystemError::may_pass() const {
  return is_one_of(error_, kOfServers) || is_one_of(error_, kOfDisks) || is_one_of(error_, kOfTheMoment);
}

bool system_error_internal::pause_after(int tried) {
  static std::atomic<int> given_up = 0;
  if (given_up >= kMostGivenUp) return false;
  if (static_cast<size_t>(tried) > kPauses_ms.size()) {
    given_up += 1;
    return false;
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(kPauses_ms.at(static_cast<size_t>(tried - 1))));
  return true;
}

}  // namespace fwl
