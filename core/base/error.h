// Errors by what the caller can do about them, and the checks that throw them.
//
// Every message has one grammar: *problem (why it matters). What to do.* Checks of anything that comes from
// users, disk or peers are always on and name the values. launch/main.cpp turns a class into an exit code.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace fwl {

// Exit codes of every command of the `fwl` program.
enum class ExitCode : int {
  kOk = 0,
  kInternal = 1,
  kConfig = 2,
  kData = 3,
  kComm = 4,
  kCheckFailed = 5,
  kTryAgain = 75,  // EX_TEMPFAIL of sysexits.h
};

class Error : public std::runtime_error {
 public:
  Error(ExitCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ExitCode code() const { return code_; }

 private:
  ExitCode code_;
};

// The input (a flag, a config key, a combination of them) must be fixed by the user.
struct ConfigError : Error {
  explicit ConfigError(const std::string& m) : Error(ExitCode::kConfig, m) {}
};
// A file (data, tokenizer, checkpoint, golden) is bad: names path, dataset and offset.
struct DataError : Error {
  explicit DataError(const std::string& m) : Error(ExitCode::kData, m) {}
};
// What was asked for cannot be had now, or not by this user: too many open files, no memory, an I/O error, a
// stale handle, a time-out, no permission, a filter plugin that is not installed, a file that is not there.
// It says nothing about the content, so it never counts as damage and is never passed over; names what, the
// system's own words, and what to do. No DataError on purpose: whoever passes over damage catches that.
struct UnavailableError : Error {
  explicit UnavailableError(const std::string& m) : Error(ExitCode::kData, m) {}
};
// A peer is gone or late.
struct CommError : Error {
  explicit CommError(const std::string& m) : Error(ExitCode::kComm, m) {}
};
// A `verify` command found a difference above its tolerance.
struct CheckFailed : Error {
  explicit CheckFailed(const std::string& m) : Error(ExitCode::kCheckFailed, m) {}
};
// Asked to end early, and did so in good order on all ranks: start again to go on.
struct Interrupted : Error {
  explicit Interrupted(const std::string& m) : Error(ExitCode::kTryAgain, m) {}
};
// A bug in fwl.
struct InternalError : Error {
  explicit InternalError(const std::string& m) : Error(ExitCode::kInternal, m) {}
};

// Joins its arguments with operator<< : cat("row ", 3, " of ", n).
template <typename... Parts>
std::string cat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

// Throws E(cat(parts...)) when `condition` is false. The message is only built on failure.
template <typename E, typename... Parts>
void require(bool condition, const Parts&... parts) {
  if (!condition) throw E(cat(parts...));
}

}  // namespace fwl
