#include "data/byte_source.h"

#include <bzlib.h>
#include <fcntl.h>
#include <lzma.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <vector>

#include "core/base/error.h"
#include "core/base/log.h"

namespace fwl {
namespace {

constexpr size_t kBuffer = size_t{1} << 18;
constexpr int kMostPackings = 4;  // one inside the other
constexpr const char* kGetAgain = "Get the file again, or leave it out with --exclude.";

// The file's own bytes.
class RawSource : public ByteSource {
 public:
  explicit RawSource(const std::string& path)
      : path_(path), fd_(path == "-" ? STDIN_FILENO : ::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    const int error = errno;
    require<UnavailableError>(fd_ >= 0, "document '", path, "' cannot be opened: ", std::strerror(error),
                              ". Check the path, its permissions and the file system.");
  }
  ~RawSource() override {
    if (fd_ != STDIN_FILENO) ::close(fd_);
  }
  int64_t consumed() const override { return consumed_; }

 private:
  size_t take(char* out, size_t count) override {
    ssize_t got = 0;
    do {
      got = ::read(fd_, out, count);
    } while (got < 0 && errno == EINTR);
    const int error = errno;
    require<UnavailableError>(got >= 0, "document '", path_, "' cannot be read: ", std::strerror(error),
                              ". Check the path, its permissions and the file system.");
    consumed_ += got;
    return static_cast<size_t>(got);
  }

  std::string path_;
  int fd_;
  int64_t consumed_ = 0;
};

// What a library reads from and writes to; it moves all four.
struct Buffers {
  const char* in;
  size_t in_left;
  char* out;
  size_t out_left;
};

// One or several members (frames, streams), one after the other, as every tool that writes them may leave
// them. Zero bytes between and after members are padding; other bytes after the last are said and left out.
class Decompressor : public ByteSource {
 public:
  Decompressor(std::unique_ptr<ByteSource> packed, Packing packing, const std::string& path)
      : packed_(std::move(packed)), packing_(packing), path_(path), buffer_(kBuffer) {}
  int64_t consumed() const override { return packed_->consumed(); }

 protected:
  virtual void begin_member() = 0;
  // Decodes; true at the member's end. A call that moves nothing is allowed.
  virtual bool step(Buffers& b) = 0;

  [[noreturn]] void refuse_damaged(const std::string& why) const {
    throw DataError(cat("'", path_, "': its ", name_of(packing_), " data is damaged or cut off near byte ",
                        packed_->consumed(), " (", why, "). ", kGetAgain));
  }
  [[noreturn]] void refuse_memory() const {
    throw UnavailableError(cat("'", path_, "': ", name_of(packing_),
                               " needs more memory for its window than there is. Free memory, or compress "
                               "the file with a smaller window."));
  }

 private:
  size_t take(char* out, size_t count) override {
    Buffers b{in_, in_left_, out, std::min<size_t>(count, size_t{1} << 30)};
    const size_t wanted = b.out_left;
    while (b.out_left == wanted && !ended_) {
      if (!in_member_ && !begin_next(b)) break;
      const bool at_end = b.in_left == 0 && !refill(b);
      const size_t in_before = b.in_left;
      in_member_ = !step(b);
      const bool moved = b.in_left != in_before || b.out_left != wanted;
      if (in_member_ && !moved) refuse_damaged(at_end ? "it ends early" : "it leads nowhere");
    }
    in_ = b.in;
    in_left_ = b.in_left;
    return wanted - b.out_left;
  }
  bool begin_next(Buffers& b) {
    if (!find_member(b)) {
      ended_ = true;
      return false;
    }
    begin_member();
    in_member_ = true;
    any_member_ = true;
    return true;
  }
  // More input behind what is left; false at the end of the file.
  bool refill(Buffers& b) {
    if (b.in_left > 0) std::memmove(buffer_.data(), b.in, b.in_left);
    const size_t got = packed_->read(buffer_.data() + b.in_left, buffer_.size() - b.in_left);
    b.in = buffer_.data();
    b.in_left += got;
    return got > 0;
  }
  // Goes to where the next member begins.
  bool find_member(Buffers& b) {
    while ((b.in_left > 0 || refill(b)) && any_member_ && *b.in == '\0') {
      ++b.in;
      --b.in_left;
    }
    while (b.in_left < kPackingBytes && refill(b)) continue;
    const std::string_view head(b.in, b.in_left);
    if (head.empty() || packing_of(head) == packing_) return !head.empty();
    if (head.size() < kPackingBytes && may_begin(packing_, head)) refuse_damaged("it ends early");
    log_warn(cat("'", path_, "': what follows its last ", name_of(packing_), " member, up to byte ",
                 packed_->consumed(),
                 " or later, is none (left out). Check the file if it should be longer."));
    return false;
  }

  std::unique_ptr<ByteSource> packed_;
  Packing packing_;
  std::string path_;
  std::vector<char> buffer_;
  const char* in_ = nullptr;
  size_t in_left_ = 0;
  bool in_member_ = false, any_member_ = false, ended_ = false;
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
    if (ZSTD_isError(left) && ZSTD_getErrorCode(left) == ZSTD_error_memory_allocation) refuse_memory();
    if (ZSTD_isError(left)) refuse_damaged(ZSTD_getErrorName(left));
    return left == 0;
  }

  std::unique_ptr<ZSTD_DStream, size_t (*)(ZSTD_DStream*)> stream_;
};

class Bzip2Source : public Decompressor {
 public:
  using Decompressor::Decompressor;
  ~Bzip2Source() override { end(); }

 private:
  void end() {
    if (started_) BZ2_bzDecompressEnd(&stream_);
    started_ = false;
  }
  void begin_member() override {
    end();
    stream_ = {};
    if (BZ2_bzDecompressInit(&stream_, 0, 0) != BZ_OK) refuse_memory();
    started_ = true;
  }
  bool step(Buffers& b) override {
    const auto in = static_cast<unsigned>(b.in_left), out = static_cast<unsigned>(b.out_left);
    stream_.next_in = const_cast<char*>(b.in);
    stream_.avail_in = in;
    stream_.next_out = b.out;
    stream_.avail_out = out;
    const int result = BZ2_bzDecompress(&stream_);
    b.in += in - stream_.avail_in;
    b.in_left = stream_.avail_in;
    b.out += out - stream_.avail_out;
    b.out_left = stream_.avail_out;
    if (result == BZ_MEM_ERROR) refuse_memory();
    if (result != BZ_OK && result != BZ_STREAM_END) refuse_damaged("its checksum or structure is wrong");
    return result == BZ_STREAM_END;
  }

  bz_stream stream_{};
  bool started_ = false;
};

class XzSource : public Decompressor {
 public:
  using Decompressor::Decompressor;
  ~XzSource() override { lzma_end(&stream_); }

 private:
  void begin_member() override {
    if (lzma_stream_decoder(&stream_, UINT64_MAX, 0) != LZMA_OK) refuse_memory();
  }
  bool step(Buffers& b) override {
    stream_.next_in = reinterpret_cast<const uint8_t*>(b.in);
    stream_.avail_in = b.in_left;
    stream_.next_out = reinterpret_cast<uint8_t*>(b.out);
    stream_.avail_out = b.out_left;
    const lzma_ret result = lzma_code(&stream_, LZMA_RUN);
    b.in += b.in_left - stream_.avail_in;
    b.in_left = stream_.avail_in;
    b.out += b.out_left - stream_.avail_out;
    b.out_left = stream_.avail_out;
    if (result == LZMA_MEM_ERROR || result == LZMA_MEMLIMIT_ERROR) refuse_memory();
    if (result != LZMA_OK && result != LZMA_BUF_ERROR && result != LZMA_STREAM_END)
      refuse_damaged("its checksum or structure is wrong");
    return result == LZMA_STREAM_END;
  }

  lzma_stream stream_ = LZMA_STREAM_INIT;
};

std::unique_ptr<ByteSource> unpack(std::unique_ptr<ByteSource> packed, Packing packing,
                                   const std::string& path) {
  switch (packing) {
    case Packing::kGzip:
      return std::make_unique<GzipSource>(std::move(packed), packing, path);
    case Packing::kZstd:
      return std::make_unique<ZstdSource>(std::move(packed), packing, path);
    case Packing::kBzip2:
      return std::make_unique<Bzip2Source>(std::move(packed), packing, path);
    case Packing::kXz:
      return std::make_unique<XzSource>(std::move(packed), packing, path);
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
