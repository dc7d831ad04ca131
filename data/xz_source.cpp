#include <lzma.h>

#include "data/decompressor.h"

namespace fwl {
namespace {

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
    if (result == LZMA_OPTIONS_ERROR)
      refuse_unknown("uses a filter or option that this version of liblzma does not know");
    if (result != LZMA_OK && result != LZMA_BUF_ERROR && result != LZMA_STREAM_END)
      refuse_damaged("its checksum or structure is wrong");
    return result == LZMA_STREAM_END;
  }

  lzma_stream stream_ = LZMA_STREAM_INIT;
};

}  // namespace

std::unique_ptr<ByteSource> open_xz(std::unique_ptr<ByteSource> packed, const std::string& path) {
  return std::make_unique<XzSource>(std::move(packed), Packing::kXz, path);
}

}  // namespace fwl
