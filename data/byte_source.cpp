#include "data/byte_source.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <vector>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/system_error.h"
#include "data/decompressor.h"

namespace fwl {
namespace {

constexpr int kMostPackings = 4;  // one inside the other

// The file's own bytes.
class RawSource : public ByteSource {
 public:
  explicit RawSource(const std::string& path) : path_(path), fd_(patiently([&] { return opened(path); })) {}
  ~RawSource() override {
    if (fd_ != STDIN_FILENO) ::close(fd_);
  }
  int64_t consumed() const override { return consumed_; }

 private:
  static int opened(const std::string& path) {
    if (path == "-") return STDIN_FILENO;
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    const int error = errno;
    if (fd < 0) throw SystemError(error, cat("document '", path, "' cannot be opened"));
    return fd;
  }
  // Standard input may have been made one that does not wait, by whoever shares it.
  void wait_for_more() const {
    pollfd input{fd_, POLLIN, 0};
    ::poll(&input, 1, -1);
  }
  size_t take(char* out, size_t count) override {
    return patiently([&] {
      ssize_t got = 0;
      int error = 0;
      do {
        got = ::read(fd_, out, count);
        error = got < 0 ? errno : 0;
        if (error == EAGAIN) wait_for_more();
      } while (error == EINTR || error == EAGAIN);
      if (error != 0) throw SystemError(error, cat("document '", path_, "' cannot be read"));
      consumed_ += got;
      return static_cast<size_t>(got);
    });
  }

  std::string path_;
  int fd_;
  int64_t consumed_ = 0;
};

class GzipSource : public Decompressor {
 public:
  using Decompressor::Decompressor;
  ~GzipSource() override {
    if (started_) inflateEnd(&stream_);
  }

 private:
  void begin_member() override {
    const int result = started_ ? inflateReset(&stream_) : inflateInit2(&stream_, 16 + MAX_WBITS);
    if (result != Z_OK) refuse_memory();
    started_ = true;
  }
  bool step(Buffers& b) override {
    const auto in = static_cast<uInt>(b.in_left), out = static_cast<uInt>(b.out_left);
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(b.in));
    stream_.avail_in = in;
    stream_.next_out = reinterpret_cast<Bytef*>(b.out);
    stream_.avail_out = out;
    const int result = inflate(&stream_, Z_NO_FLUSH);
    b.in += in - stream_.avail_in;
    b.in_left = stream_.avail_in;
    b.out += out - stream_.avail_out;
    b.out_left = stream_.avail_out;
    if (result == Z_MEM_ERROR) refuse_memory();
    if (result != Z_OK && result != Z_BUF_ERROR && result != Z_STREAM_END)
      refuse_damaged(stream_.msg != nullptr ? stream_.msg : "zlib");
    return result == Z_STREAM_END;
  }

  z_stream stream_{};
  bool started_ = false;
};

class ZstdSource : public Decompressor {
 public:
  ZstdSource(std::unique_ptr<ByteSource> packed, Packing packing, const std::string& path)
      : Decompressor(std::move(packed), packing, path), stream_(ZSTD_createDStream(), &ZSTD_freeDStream) {
    if (stream_ == nullptr) refuse_memory();
    // 2 GiB, what `zstd --ultra --long=31` writes; memory is taken as a frame asks for it.
    ZSTD_DCtx_setParameter(stream_.get(), ZSTD_d_windowLogMax, sizeof(size_t) > 4 ? 31 : 30);
  }

 private:
  void begin_member() override { ZSTD_DCtx_reset(stream_.get(), ZSTD_reset_session_only); }
  bool step(Buffers& b) override {
    ZSTD_inBuffer in{b.in, b.in_left, 0};
    ZSTD_outBuffer out{b.out, b.out_left, 0};
    const size_t left = ZSTD_decompressStream(stream_.get(), &out, &in);
    b.in += in.pos;
    b.in_left -= in.pos;
    b.out += out.pos;
    b.out_left -= out.pos;
    if (ZSTD_isError(left)) refuse(left);
    return left == 0;
  }
  [[noreturn]] void refuse(size_t result) const {
    switch (ZSTD_getErrorCode(result)) {
      case ZSTD_error_memory_allocation:
        refuse_memory();
      case ZSTD_error_dictionary_wrong:
        refuse_unknown("was made with a dictionary (zstd -D), which is not known here");
      case ZSTD_error_frameParameter_windowTooLarge:
        refuse_unknown("needs a window of more than 2 GiB");
      default:
        refuse_damaged(ZSTD_getErrorName(result));
    }
  }

  std::unique_ptr<ZSTD_DStream, size_t (*)(ZSTD_DStream*)> stream_;
};

std::unique_ptr<ByteSource> unpack(std::unique_ptr<ByteSource> packed, Packing packing,
                                   const std::string& path) {
  switch (packing) {
    case Packing::kGzip:
      return std::make_unique<GzipSource>(std::move(packed), packing, path);
    case Packing::kZstd:
      return std::make_unique<ZstdSource>(std::move(packed), packing, path);
    case Packing::kBzip2:
      return open_bzip2(std::move(packed), path);
    case Packing::kXz:
      return open_xz(std::move(packed), path);
    case Packing::kNone:
      break;
  }
  return packed;
}

void require_expected(const std::string& path, Packing expected, std::string_view head) {
  if (expected == Packing::kNone) return;
  const bool zeros = std::all_of(head.begin(), head.end(), [](char c) { return c == '\0'; });
  throw DataError(cat("'", path, "' is named as ", name_of(expected), " data, but ",
                      head.empty() ? "is empty"
                      : zeros      ? "begins with zero bytes"
                                   : "holds something else",
                      " (damaged, cut off, or renamed). ", kGetAgain,
                      head.empty() || zeros ? "" : " If it is plain text, take the ending off its name."));
}

// Text in another 8-bit encoding is kept byte for byte, but seldom meant.
void warn_of_bytes(const std::string& path, std::string_view head) {
  static std::atomic<int> said = 0;
  constexpr int kMost = 10;
  const double share = invalid_share(head);
  if (share <= 0.1 || said >= kMost) return;
  log_warn(
      cat("'", path, "': ", static_cast<int>(100 * share),
          " % of its first bytes are no UTF-8 (another encoding, or no text); they are kept as byte tokens.",
          ++said == kMost ? " Further files are not named." : ""));
}

}  // namespace

size_t ByteSource::read(char* out, size_t count) {
  if (at_ == ahead_.size()) return take(out, count);
  count = std::min(count, ahead_.size() - at_);
  std::copy_n(ahead_.begin() + static_cast<std::ptrdiff_t>(at_), count, out);
  at_ += count;
  return count;
}

std::string_view ByteSource::peek(size_t count) {
  ahead_.erase(0, at_);
  at_ = 0;
  while (ahead_.size() < count) {
    const size_t before = ahead_.size();
    ahead_.resize(count);
    const size_t got = take(ahead_.data() + before, count - before);
    ahead_.resize(before + got);
    if (got == 0) break;
  }
  return std::string_view(ahead_).substr(0, count);
}

std::unique_ptr<ByteSource> open_bytes(const std::string& path, const std::string& name) {
  std::unique_ptr<ByteSource> bytes = std::make_unique<RawSource>(path);
  const Packing expected = packing_named(name.empty() ? path : name);
  int depth = 0;
  for (Packing packing; (packing = packing_of(bytes->peek(kPackingBytes))) != Packing::kNone; ++depth) {
    require<DataError>(depth < kMostPackings, "'", path, "' is compressed more than ", kMostPackings,
                       " times over (no file of text is). Decompress it, or leave it out with --exclude.");
    bytes = unpack(std::move(bytes), packing, path);
  }
  const std::string_view head = bytes->peek(kHeadBytes);
  if (depth == 0) require_expected(path, expected, head);
  const std::string problem = why_no_text(head);
  require<DataError>(problem.empty(), "'", path, "' is ", problem, ", or leave it out with --exclude.");
  warn_of_bytes(path, head);
  return bytes;
}

}  // namespace fwl
