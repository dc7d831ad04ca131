// JSON from files that anyone may have written: how deep it may be nested; and its text, of any bytes.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace fwl {

// No file of ours is nested deeper than 10. Copies and printing of what is nested deeply end the program.
inline constexpr int kDeepestJson = 64;

inline bool is_nested_too_deeply(std::string_view text) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kDeepestJson) return true;
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return false;
}

// What the text says; is_discarded() where it is no JSON, or nested deeper than kDeepestJson.
inline nlohmann::json parse_json(const std::string& text) {
  if (is_nested_too_deeply(text)) return nlohmann::json(nlohmann::json::value_t::discarded);
  return nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
}

// A whole number from `least` to `most`. Throws json::exception otherwise, fractions included: their
// conversion is undefined where they do not fit.
inline int64_t whole_number(const nlohmann::json& value, int64_t least, int64_t most) {
  const bool fits = value.is_number_integer() && !(value.is_number_unsigned() && value > INT64_MAX) &&
                    value.get<int64_t>() >= least && value.get<int64_t>() <= most;
  if (!fits)
    throw nlohmann::json::out_of_range::create(
        401, value.is_structured() ? "a list or object is no number" : value.dump() + " is absurd here",
        nullptr);
  return value.get<int64_t>();
}

// The JSON on one line, or with `indent` blanks a level. Strings may hold any bytes (names of files and of
// users do); those that are no UTF-8 become U+FFFD, where the library alone would throw after all the work is
// done. What must lead back to a file is kept elsewhere.
template <typename Json>
std::string json_text(const Json& value, int indent = -1) {
  return value.dump(indent, ' ', false, Json::error_handler_t::replace);
}

}  // namespace fwl
