#include "data/json_text.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>

#include "core/base/error.h"
#include "data/utf8.h"

namespace fwl {
namespace {

using nlohmann::json;

// An invalid byte b is parsed as its stand-in, the code point kStandIns + b, of a block of 256 private ones.
// A code point of that block that the line itself holds is taken for four such bytes: nothing is mixed up.
constexpr char32_t kStandIns = 0x10FB00;

bool is_stand_in(char32_t code) {
  return code >= kStandIns && code < kStandIns + 256;
}

std::string utf8_of(char32_t code) {
  std::string bytes;
  if (code < 0x10000) {
    bytes += static_cast<char>(0xE0 | (code >> 12));
  } else {
    bytes += static_cast<char>(0xF0 | (code >> 18));
    bytes += static_cast<char>(0x80 | ((code >> 12) & 0x3F));
  }
  bytes += static_cast<char>(0x80 | ((code >> 6) & 0x3F));
  bytes += static_cast<char>(0x80 | (code & 0x3F));
  return bytes;
}

// The byte for which the code point at `at` stands, if it is a stand-in.
std::optional<char> stood_for(std::string_view text, size_t at) {
  if (at + 4 > text.size() || (static_cast<unsigned char>(text[at]) & 0xF8u) != 0xF0) return std::nullopt;
  char32_t code = static_cast<unsigned char>(text[at]) & 0x07u;
  for (size_t i = 1; i < 4; ++i) code = (code << 6) | (static_cast<unsigned char>(text[at + i]) & 0x3Fu);
  return is_stand_in(code) ? std::optional<char>(static_cast<char>(code - kStandIns)) : std::nullopt;
}

// The unit of an escape \uXXXX at `at`; nothing for anything else.
std::optional<char32_t> escaped_unit(std::string_view line, size_t at) {
  if (at + 6 > line.size() || line[at] != '\\' || line[at + 1] != 'u') return std::nullopt;
  char32_t unit = 0;
  for (size_t i = at + 2; i < at + 6; ++i) {
    const size_t digit = std::string_view("0123456789abcdefABCDEF").find(line[i]);
    if (digit == std::string_view::npos) return std::nullopt;
    unit = unit * 16 + static_cast<char32_t>(digit < 16 ? digit : digit - 6);
  }
  return unit;
}

bool is_high(char32_t unit) {
  return unit >= 0xD800 && unit < 0xDC00;
}
bool is_low(char32_t unit) {
  return unit >= 0xDC00 && unit < 0xE000;
}

void add_stand_ins(std::string_view bytes, std::string* out) {
  for (const char b : bytes) *out += utf8_of(kStandIns + static_cast<unsigned char>(b));
}

// Copies the escape \u at `at`, or puts stand-ins; its length.
size_t copy_escape(std::string_view line, size_t at, char32_t unit, std::string* out) {
  const auto next = escaped_unit(line, at + 6);
  if (is_high(unit) && next && is_low(*next)) {
    const char32_t code = 0x10000 + ((unit - 0xD800) << 10) + (*next - 0xDC00);
    is_stand_in(code) ? add_stand_ins(utf8_of(code), out) : void(*out += line.substr(at, 12));
    return 12;
  }
  is_high(unit) || is_low(unit) ? add_stand_ins(utf8_of(unit), out) : void(*out += line.substr(at, 6));
  return 6;
}

// `line` with stand-ins for what JSON does not allow.
std::string with_stand_ins(std::string_view line) {
  std::string clean;
  for (size_t at = 0; at < line.size();) {
    size_t length = utf8_length(line.substr(at));
    if (const auto unit = escaped_unit(line, at)) {
      at += copy_escape(line, at, *unit, &clean);
      continue;
    }
    if (line[at] == '\\') length = std::min<size_t>(2, line.size() - at);
    if (length == 0 || stood_for(line, at)) {
      length = std::max<size_t>(1, length);
      add_stand_ins(line.substr(at, length), &clean);
    } else {
      clean += line.substr(at, length);
    }
    at += length;
  }
  return clean;
}

std::string without_stand_ins(std::string_view text) {
  std::string original;
  for (size_t at = 0; at < text.size();) {
    const std::optional<char> byte = stood_for(text, at);
    original += byte ? *byte : text[at];
    at += byte ? 4 : 1;
  }
  return original;
}

std::string string_of(const json& object, const std::string& field) {
  require<DataError>(object.is_object(),
                     "is no JSON object (damaged, or no JSON lines). Correct the file or leave it out.");
  const auto found = object.find(field);
  require<DataError>(found != object.end() && found->is_string(), "has no string '", field,
                     "'. Give the field's name with --field.");
  return found->get<std::string>();
}

// Length of the string that begins with the quote at `at`, its quotes included.
size_t string_length(std::string_view line, size_t at) {
  size_t end = at + 1;
  while (end < line.size() && line[end] != '"') end += line[end] == '\\' ? 2 : 1;
  return std::min(end + 1, line.size()) - at;
}

// What stands for a bare word or number that JSON does not know; the word itself where it does.
std::string known_word(const std::string& word) {
  if (word == "NaN" || word == "-NaN" || word == "Infinity" || word == "-Infinity") return "null";
  if (word.find_first_not_of("+-.0123456789eE") != std::string::npos) return word;
  char* end = nullptr;
  const double value = std::strtod(word.c_str(), &end);
  return *end == '\0' && std::isinf(value) ? "null" : word;
}

// `line` with null for numbers that are not finite.
std::string with_finite_numbers(std::string_view line) {
  constexpr std::string_view kWord = "+-.0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  std::string clean;
  for (size_t at = 0; at < line.size();) {
    size_t length = line[at] == '"' ? string_length(line, at) : 1;
    const size_t word_end = std::min(line.find_first_not_of(kWord, at), line.size());
    if (word_end > at) {
      length = word_end - at;
      clean += known_word(std::string(line.substr(at, length)));
    } else {
      clean += line.substr(at, length);
    }
    at += length;
  }
  return clean;
}

// Of an object that has `field` twice the library alone would keep the last.
json parsed_once(const std::string& text, const std::string& field) {
  const std::string key = '"' + field + '"';
  const size_t first = field.empty() ? std::string::npos : text.find(key);
  const bool may_repeat =
      first != std::string::npos && text.find(key, first + key.size()) != std::string::npos;
  if (!may_repeat) return json::parse(text, nullptr, /*allow_exceptions=*/false);
  int found = 0;
  json value = json::parse(
      text,
      [&](int depth, json::parse_event_t event, const json& part) {
        found += depth == 1 && event == json::parse_event_t::key && part == field ? 1 : 0;
        return true;
      },
      false);
  require<DataError>(found <= 1, "has '", field, "' ", found,
                     " times (all but one would be lost). Correct the file or leave it out.");
  return value;
}

// The parsed line; `stand_ins`: whether its strings hold some.
json parsed(const std::string& line, const std::string& field, bool* stand_ins) {
  *stand_ins = false;
  // The library takes a zero byte for the end: what follows would be lost.
  if (line.find('\0') != std::string::npos) return json::value_t::discarded;
  json value = parsed_once(line, field);
  if (!value.is_discarded()) return value;
  const std::string finite = with_finite_numbers(line);
  value = parsed_once(finite, field);
  if (!value.is_discarded()) return value;
  *stand_ins = true;
  return parsed_once(with_stand_ins(finite), field);
}

}  // namespace

std::string json_string(const std::string& line, const std::string& field) {
  bool stand_ins = false;
  const std::string text = string_of(parsed(line, field, &stand_ins), field);
  return stand_ins ? without_stand_ins(text) : text;
}

bool is_json_object(const std::string& line) {
  bool stand_ins = false;
  return parsed(line, "", &stand_ins).is_object();
}

}  // namespace fwl
