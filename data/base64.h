// Bytes as printable text (RFC 4648, section 4: alphabet A-Z a-z 0-9 + /, padded with =).
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace fwl {

std::string to_base64(std::string_view bytes);
// Nothing when `text` is not what to_base64() gives for some bytes.
std::optional<std::string> from_base64(std::string_view text);

}  // namespace fwl
