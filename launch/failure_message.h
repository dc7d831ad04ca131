// How an exception ends the program: its exit code, and what is said of it.
#pragma once

#include <exception>
#include <string>

#include "core/base/error.h"

namespace fwl {

struct FailureMessage {
  ExitCode code;
  std::string text;
};
FailureMessage message_of(const std::exception& error);

}  // namespace fwl
