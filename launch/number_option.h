// Checks of numbers on the command line whose messages name what fits (CLI11's own print the largest double).
#pragma once

#include <CLI/CLI.hpp>
#include <charconv>
#include <string>

#include "core/base/error.h"

namespace fwl {

// For CLI::Option::check: a whole number of at least `least`.
inline CLI::Validator whole_number_from(int64_t least) {
  const auto problem_of = [least](const std::string& text) {
    int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    const bool fits = error == std::errc() && end == text.data() + text.size() && value >= least;
    return fits ? std::string() : cat("'", text, "' is no whole number from ", least, " up");
  };
  return CLI::Validator(problem_of, cat("INT from ", least));
}

}  // namespace fwl
