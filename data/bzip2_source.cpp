#include <bzlib.h>

#include "data/decompressor.h"

namespace fwl {
namespace {

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

}  // namespace

std::unique_ptr<ByteSource> open_bzip2(std::unique_ptr<ByteSource> packed, const std::string& path) {
  return std::make_unique<Bzip2Source>(std::move(packed), Packing::kBzip2, path);
}

}  // namespace fwl
