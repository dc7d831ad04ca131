// Bytes of a file or of standard input, decompressed where they are gzip, zstd, bzip2 or xz. For one thread
// at a time.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "data/file_kind.h"

namespace fwl {

class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // Up to `count` bytes into `out`; 0 at the end. Throws UnavailableError when the file cannot be read,
  // DataError when compressed data is damaged or ends early.
  size_t read(char* out, size_t count);
  // The next bytes, which stay to be read: `count` of them, fewer at the end. Valid until the next call.
  std::string_view peek(size_t count);
  // Bytes taken from the file so far, before decompression.
  virtual int64_t consumed() const = 0;

 protected:
  // Like read(), from where the source itself is.
  virtual size_t take(char* out, size_t count) = 0;

 private:
  std::string ahead_;  // taken, not read yet, from at_
  size_t at_ = 0;
};

// `path` "-": standard input. Content decides: what begins as gzip, zstd, bzip2 or xz is decompressed,
// whatever its name, also when it is compressed several times. `name` (empty: the path) is asked for what is
// expected. Throws UnavailableError when the file cannot be opened, and DataError, naming it and saying what
// to do, for a name of a compressed file that holds something else, and for what is no text (why_no_text).
std::unique_ptr<ByteSource> open_bytes(const std::string& path, const std::string& name = "");

}  // namespace fwl
