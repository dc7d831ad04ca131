#include "checkpoints/checksum.h"

#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <vector>

#include "core/base/error.h"
#include "core/base/hex.h"
#include "core/base/system_error.h"

namespace fwl {
namespace {

constexpr size_t kReadBytes = size_t{4} << 20;

class ReadOnlyFile {
 public:
  explicit ReadOnlyFile(const std::string& path)
      : path_(path), fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    const int error = errno;
    if (fd_ < 0) throw SystemError(error, cat("'", path, "' cannot be opened"));
  }
  ~ReadOnlyFile() { ::close(fd_); }
  ReadOnlyFile(const ReadOnlyFile&) = delete;
  ReadOnlyFile& operator=(const ReadOnlyFile&) = delete;
  // 0 at the end of the file.
  int64_t read(void* out, size_t bytes) const {
    ssize_t got = 0;
    do got = ::read(fd_, out, bytes);
    while (got < 0 && errno == EINTR);
    const int error = errno;
    if (got < 0) throw SystemError(error, cat("'", path_, "' cannot be read"));
    return got;
  }

 private:
  const std::string& path_;
  int fd_;
};

}  // namespace

uint32_t checksum_of(const void* data, int64_t bytes, uint32_t start) {
  return static_cast<uint32_t>(
      ::crc32_z(start, static_cast<const unsigned char*>(data), static_cast<size_t>(bytes)));
}

FileChecksum checksum_of_file(const std::string& path) {
  return patiently([&] {
    const ReadOnlyFile file(path);
    FileChecksum result;
    std::vector<char> buffer(kReadBytes);
    while (const int64_t got = file.read(buffer.data(), buffer.size())) {
      result.checksum = checksum_of(buffer.data(), got, result.checksum);
      result.bytes += got;
    }
    return result;
  });
}

std::string checksum_text(uint32_t checksum) {
  return to_hex(uint64_t{checksum}).substr(8);
}

uint64_t parse_hash(const std::string& text, const std::string& where) {
  uint64_t value = 0;
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, value, 16);
  require<DataError>(parsed.ec == std::errc() && parsed.ptr == end && (text.size() == 8 || text.size() == 16),
                     where, ": '", text,
                     "' is no checksum (8 or 16 hexadecimal digits). Use another checkpoint.");
  return value;
}

}  // namespace fwl
