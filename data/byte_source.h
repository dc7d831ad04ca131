// Bytes of a file or of standard input, decompressed where they are gzip or zstd. For one thread at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace fwl {

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // Up to `count` bytes into `out`; 0 at the end. Throws DataError when the file cannot be read, or when
  // compressed data is damaged or ends early.
  virtual size_t read(char* out, size_t count) = 0;
  // Bytes taken from the file so far, before decompression.
  virtual int64_t consumed() const = 0;
};

// `path` "-": standard input, decompressed when it begins with the mark of gzip or zstd. A file is
// decompressed when its name ends in .gz or .zst. Throws DataError.
std::unique_ptr<ByteSource> open_bytes(const std::string& path);

// The name without .gz or .zst.
std::string without_compression(const std::string& name);

}  // namespace fwl
