// Errors of the operating system (errno): what they say about a file's content, which is nothing.
#pragma once

#include <string>

#include "core/base/error.h"

namespace fwl {

// What the system refused, with its number (EMFILE, EACCES, EIO, ...).
class SystemError : public UnavailableError {
 public:
  // "PROBLEM: the system's own words (why it matters). What to do." `error` is an errno, saved before any
  // other call.
  SystemError(int error, const std::string& problem);
  int number() const { return error_; }
  // Nothing lies at that path.
  bool is_missing() const;
  // The same may succeed a moment later: another thread closes files, the file server answers again.
  bool may_pass() const;

 private:
  int error_;
};

// The system's words for an errno. In an argument list beside the call that sets errno, errno itself is read
// too early or too late: save it first.
std::string system_words(int error);
// What a user can do about it; one sentence.
std::string advice_for(int error);
// Whether a failed read with this errno says nothing about the content. The others (EINVAL, EFBIG, ...) are
// what a damaged file's addresses lead to.
bool is_unavailable(int error);

namespace system_error_internal {
// Pauses before try number `tried` + 1; false when it is enough.
bool pause_after(int tried);
}  // namespace system_error_internal

// Calls `attempt`. Where it throws a SystemError that may pass, it is called again after pauses of 0.1, 0.4
// and 1.6 s; then the error goes on. In a process that has waited so three times in vain nobody waits again.
template <typename Attempt>
auto patiently(const Attempt& attempt) {
  for (int tried = 1;; ++tried) {
    try {
      return attempt();
    } catch (const SystemError& error) {
      if (!error.may_pass() || !system_error_internal::pause_after(tried)) throw;
    }
  }
}

}  // namespace fwl
