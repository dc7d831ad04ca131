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

// For CLI::Option::check: numbers from 0 to 1. (CLI::Range lets NaN through: it compares with no end.)
inline CLI::Validator number_from_zero_to_one() {
  return CLI::Validator(
      [](std::string& text) {
        double value = 0;
        const bool fits = CLI::detail::lexical_cast(text, value) && value >= 0 && value <= 1;
        return fits ? std::string() : cat("'", text, "' is no number from 0 to 1");
      },
      "");
}
// The same without 0.
inline CLI::Validator number_above_zero_to_one() {
  return CLI::Validator(
      [](std::string& text) {
        double value = 0;
        const bool fits = CLI::detail::lexical_cast(text, value) && value > 0 && value <= 1;
        return fits ? std::string() : cat("'", text, "' is no number above 0 up to 1");
      },
      "");
}

}  // namespace fwl
