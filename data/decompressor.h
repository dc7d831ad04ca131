// What reads compressed text has in common: one member (frame, stream) after the other from a source of
// bytes. bzip2 and xz are files of their own, with stand-ins where their library is not there (no_bzip2.cpp,
// no_xz.cpp).
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/error.h"
#include "core/base/log.h"
#include "data/byte_source.h"
#include "data/file_kind.h"

namespace fwl {

inline constexpr const char* kGetAgain = "Get the file again, or leave it out with --exclude.";

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
      : packed_(std::move(packed)), packing_(packing), path_(path), buffer_(size_t{1} << 18) {}
  int64_t consumed() const override { return packed_->consumed(); }

 protected:
  virtual void begin_member() = 0;
  // Decodes; true at the member's end. A call that moves nothing is allowed.
  virtual bool step(Buffers& b) = 0;

  [[noreturn]] void refuse_damaged(const std::string& why) const {
    throw DataError(cat("'", path_, "': its ", name_of(packing_), " data is damaged or cut off near byte ",
                        packed_->consumed(), " (", why, "). ", kGetAgain));
  }
  // Sound data that this program cannot decode: `why` goes on with what it needs.
  [[noreturn]] void refuse_unknown(const std::string& why) const {
    throw UnavailableError(cat("'", path_, "': its ", name_of(packing_), " data ", why,
                               " (this says nothing about its content). Decompress it first."));
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

// Whole files of these kinds. Throw UnavailableError in a build without the library.
std::unique_ptr<ByteSource> open_bzip2(std::unique_ptr<ByteSource> packed, const std::string& path);
std::unique_ptr<ByteSource> open_xz(std::unique_ptr<ByteSource> packed, const std::string& path);

}  // namespace fwl
