// The text in a line of JSON, also where the line is no clean Unicode: web dumps hold bytes that are no UTF-8
// and escapes of half a surrogate pair, which the JSON library refuses.
#pragma once

#include <string>

namespace fwl {

// The string `field` of the object that `line` holds. Bytes of the line that are no part of valid UTF-8 are
// kept as they are; an escaped surrogate without its other half gives the three bytes of its code point
// (WTF-8), which count as invalid UTF-8. Numbers that JSON has no words for (NaN, Infinity, 1e999), as other
// programs write them, are fine in other fields. Throws DataError without a place: no object (one with a zero
// byte behind it among them), no such string, or two of them.
std::string json_string(const std::string& line, const std::string& field);
// Whether `line` is a whole JSON object, in the same broad sense.
bool is_json_object(const std::string& line);

}  // namespace fwl
