#include "data/byte_source.h"

#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <vector>

#include "core/base/error.h"

namespace fwl {
namespace {

constexpr size_t kBuffer = size_t{1} << 18;

bool ends_with(const std::string& text, std::string_view end) {
  return text.size() > end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

// The file's own bytes, with a look at the first ones.
class RawSource : public ByteSource {
 public:
  explicit RawSource(const std::string& path)
      : path_(path), fd_(path == "-" ? STDIN_FILENO : ::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    require<DataError>(fd_ >= 0, "document '", path, "' cannot be opened: ", std::strerror(errno),
                       ". Check the path and its permissions.");
  }
  ~RawSource() override {
    if (fd_ != STDIN_FILENO) ::close(fd_);
  }
  std::string_view peek(size_t count) {
    while (ahead_.size() < count) {
      char more[8];
      const size_t got = take(more, count - ahead_.size());
      if (got == 0) break;
      ahead_.append(more, got);
    }
    return ahead_;
  }
  size_t read(char* out, size_t count) override {
    if (!ahead_.empty()) {
      count = std::min(count, ahead_.size());
      std::copy_n(ahead_.begin(), count, out);
      ahead_.erase(0, count);
      return count;
    }
    return take(out, count);
  }
  int64_t consumed() const override { return consumed_; }
  const std::string& path() const { return path_; }

 private:
  size_t take(char* out, size_t count) {
    ssize_t got = 0;
    do {
      got = ::read(fd_, out, count);
    } while (got < 0 && errno == EINTR);
    require<DataError>(got >= 0, "document '", path_, "' cannot be read: ", std::strerror(errno),
                       ". Check the path and its permissions.");
    consumed_ += got;
    return static_cast<size_t>(got);
  }

  std::string path_, ahead_;
  int fd_;
  int64_t consumed_ = 0;
};

[[noreturn]] void refuse_damaged(const std::string& path, const char* kind, int64_t at,
                                 const std::string& why) {
  throw DataError(cat("'", path, "': its ", kind, " data is damaged or cut off near byte ", at, " (", why,
                      "). Get the file again, or leave it out with --exclude."));
}

// One or several gzip members, one after the other.
class GzipSource : public ByteSource {
 public:
  explicit GzipSource(std::unique_ptr<RawSource> raw) : raw_(std::move(raw)), buffer_(kBuffer) {
    require<InternalError>(inflateInit2(&stream_, 16 + MAX_WBITS) == Z_OK, "zlib cannot start");
  }
  ~GzipSource() override { inflateEnd(&stream_); }
  size_t read(char* out, size_t count) override {
    stream_.next_out = reinterpret_cast<Bytef*>(out);
    stream_.avail_out = static_cast<uInt>(std::min<size_t>(count, 1u << 30));
    const size_t wanted = stream_.avail_out;
    while (stream_.avail_out == wanted) {
      if (stream_.avail_in == 0 && !refill()) {
        if (!between_members_) refuse_damaged(raw_->path(), "gzip", raw_->consumed(), "it ends early");
        break;
      }
      if (between_members_) require_ok(inflateReset(&stream_));
      between_members_ = false;
      const int result = inflate(&stream_, Z_NO_FLUSH);
      if (result == Z_STREAM_END) {
        between_members_ = true;
      } else {
        require_ok(result);
      }
    }
    return wanted - stream_.avail_out;
  }
  int64_t consumed() const override { return raw_->consumed(); }

 private:
  bool refill() {
    stream_.next_in = reinterpret_cast<Bytef*>(buffer_.data());
    stream_.avail_in = static_cast<uInt>(raw_->read(buffer_.data(), buffer_.size()));
    return stream_.avail_in > 0;
  }
  void require_ok(int result) const {
    if (result != Z_OK && result != Z_BUF_ERROR)
      refuse_damaged(raw_->path(), "gzip", raw_->consumed(), stream_.msg != nullptr ? stream_.msg : "zlib");
  }

  std::unique_ptr<RawSource> raw_;
  std::vector<char> buffer_;
  z_stream stream_{};
  bool between_members_ = true;
};

class ZstdSource : public ByteSource {
 public:
  explicit ZstdSource(std::unique_ptr<RawSource> raw)
      : raw_(std::move(raw)), buffer_(kBuffer), stream_(ZSTD_createDStream(), &ZSTD_freeDStream) {
    require<InternalError>(stream_ != nullptr, "zstd cannot start");
    ZSTD_DCtx_setParameter(stream_.get(), ZSTD_d_windowLogMax, 27);  // 128 MiB
  }
  size_t read(char* out, size_t count) override {
    ZSTD_outBuffer target{out, count, 0};
    while (target.pos == 0) {
      if (input_.pos == input_.size && !flushing_) {
        input_ = {buffer_.data(), raw_->read(buffer_.data(), buffer_.size()), 0};
        if (input_.size == 0) {
          if (!between_frames_) refuse_damaged(raw_->path(), "zstd", raw_->consumed(), "it ends early");
          break;
        }
      }
      const size_t left = ZSTD_decompressStream(stream_.get(), &target, &input_);
      if (ZSTD_isError(left)) refuse_damaged(raw_->path(), "zstd", raw_->consumed(), ZSTD_getErrorName(left));
      between_frames_ = left == 0;
      flushing_ = target.pos == target.size && left != 0;
    }
    return target.pos;
  }
  int64_t consumed() const override { return raw_->consumed(); }

 private:
  std::unique_ptr<RawSource> raw_;
  std::vector<char> buffer_;
  std::unique_ptr<ZSTD_DStream, size_t (*)(ZSTD_DStream*)> stream_;
  ZSTD_inBuffer input_{nullptr, 0, 0};
  bool between_frames_ = true;
  bool flushing_ = false;  // the library may hold more output without new input
};

}  // namespace

std::unique_ptr<ByteSource> open_bytes(const std::string& path) {
  auto raw = std::make_unique<RawSource>(path);
  bool gzip = ends_with(path, ".gz"), zstd = ends_with(path, ".zst");
  if (path == "-") {
    const std::string_view mark = raw->peek(4);
    gzip = mark.substr(0, 2) == "\x1F\x8B";
    zstd = mark == "\x28\xB5\x2F\xFD";
  }
  if (gzip) return std::make_unique<GzipSource>(std::move(raw));
  if (zstd) return std::make_unique<ZstdSource>(std::move(raw));
  return raw;
}

std::string without_compression(const std::string& name) {
  for (const std::string_view end : {".gz", ".zst"}) {
    if (ends_with(name, end)) return name.substr(0, name.size() - end.size());
  }
  return name;
}

}  // namespace fwl
