#include "launch/failure_message.h"

#include <c10/util/Exception.h>

#include <filesystem>

namespace fwl {

FailureMessage message_of(const std::exception& error) {
  if (const auto* own = dynamic_cast<const Error*>(&error)) return {own->code(), own->what()};
  if (const auto* of_torch = dynamic_cast<const c10::Error*>(&error))
    return {ExitCode::kInternal, cat("internal error in LibTorch: ", of_torch->what_without_backtrace())};
  // Where the code that asked had nothing better to say: a path that may not even be looked at.
  if (const auto* of_path = dynamic_cast<const std::filesystem::filesystem_error*>(&error))
    return {ExitCode::kData, cat("'", of_path->path1().string(), "' cannot be used: ",
                                 of_path->code().message(), ". Check the path and its permissions.")};
  return {ExitCode::kInternal,
          cat("internal error: ", error.what(), ". Please report it with the command line.")};
}

}  // namespace fwl
