// The text in a line of JSON, also where the line is no clean Unicode: web dumps hold bytes that are no UTF-8
// and escapes of half a surrogate pair, which the JSON library refuses.
#pragma once

#include <string>

namespace fwl {

// The string `field` of the object that `line` holds. Bytes of the line that are no part of valid UTF-8 are
// kept as they are; an escaped surrogate without its other half gives the three bytes of its code point
// (WTF-8), which count as invalid UTF-8. Throws DataError without a place: no object, or no such string.
std::string json_string(const std::string& line, const std::string& field);

}  // namespace fwl
