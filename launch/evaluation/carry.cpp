#include "launch/evaluation/carry.h"

#include <algorithm>
#include <charconv>
#include <sstream>

#include "core/base/error.h"

namespace fwl {
namespace {

constexpr const char* kStreamPrefix = "stream:";

int64_t parse_tokens(const std::string& digits, const std::string& text) {
  int64_t tokens = 0;
  const char* end = digits.data() + digits.size();
  const auto [stop, error] = std::from_chars(digits.data(), end, tokens);
  require<ConfigError>(error == std::errc() && stop == end && tokens > 0, "--carry '", text,
                       "' says nothing about how far the fast weights go on. Give document, stream, a number "
                       "of tokens N, or stream:N; several with commas.");
  return tokens;
}

}  // namespace

Carry parse_carry(const std::string& text) {
  if (text == "document") return {Carry::Scope::kDocument, 0};
  if (text == "stream") return {Carry::Scope::kStream, 0};
  const std::string prefix = kStreamPrefix;
  if (text.rfind(prefix, 0) == 0)
    return {Carry::Scope::kStream, parse_tokens(text.substr(prefix.size()), text)};
  return {Carry::Scope::kDocument, parse_tokens(text, text)};
}

std::string to_string(const Carry& carry) {
  const bool stream = carry.scope == Carry::Scope::kStream;
  if (carry.tokens == 0) return stream ? "stream" : "document";
  return (stream ? kStreamPrefix : "") + std::to_string(carry.tokens);
}

std::vector<Carry> parse_carry_list(const std::string& text) {
  std::vector<Carry> list;
  std::stringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');) {
    const Carry carry = parse_carry(part);
    const bool is_new = std::find(list.begin(), list.end(), carry) == list.end();
    require<ConfigError>(is_new, "--carry names ", part, " twice. Name it once.");
    list.push_back(carry);
  }
  if (list.empty()) list.push_back(parse_carry(text));
  return list;
}

void check_carry(const Carry& carry, int64_t context) {
  const int64_t below = carry.tokens / context * context;
  require<ConfigError>(carry.tokens % context == 0, "--carry ", to_string(carry),
                       " is no multiple of the context of ", context,
                       " tokens (a window's fast weights start from zero or go on, as a whole). Give ",
                       below > 0 ? cat(below, " or ", below + context) : cat(context, " or a multiple of it"),
                       ", or another --context.");
}

}  // namespace fwl
