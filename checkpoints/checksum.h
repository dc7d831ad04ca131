// CRC-32 (zlib's) of memory and of whole files: it finds accidents, every single flipped byte among them.
#pragma once

#include <cstdint>
#include <string>

namespace fwl {

uint32_t checksum_of(const void* data, int64_t bytes, uint32_t start = 0);
inline uint32_t checksum_of(const std::string& text) {
  return checksum_of(text.data(), static_cast<int64_t>(text.size()));
}

struct FileChecksum {
  int64_t bytes = 0;
  uint32_t checksum = 0;
  bool operator==(const FileChecksum&) const = default;
};
// Reads the whole file. Throws UnavailableError (path, cause) when it cannot be read.
FileChecksum checksum_of_file(const std::string& path);

// As the manifest writes it: 8 hexadecimal digits. Hashes have 16 (to_hex, core/base/hex.h).
std::string checksum_text(uint32_t checksum);
// Inverse of both. Throws DataError when `text` is something else; `where` begins the message.
uint64_t parse_hash(const std::string& text, const std::string& where);

}  // namespace fwl
