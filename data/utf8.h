// UTF-8 (RFC 3629: shortest forms, no surrogates, up to U+10FFFF).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace fwl {

// Bytes of the character at the front; 0 if there is no valid one.
size_t utf8_length(std::string_view text);
// How many bytes of `text` are no part of a valid character.
int64_t invalid_utf8_bytes(std::string_view text);

}  // namespace fwl
