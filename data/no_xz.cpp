// In place of xz_source.cpp where liblzma-dev was not there to build with.
#include "data/decompressor.h"

namespace fwl {

std::unique_ptr<ByteSource> open_xz(std::unique_ptr<ByteSource>, const std::string& path) {
  throw UnavailableError(
      cat("'", path,
          "' is xz data, which this build does not read (liblzma-dev was not there when "
          "it was built). Unpack the file first, or install liblzma-dev and build again."));
}

}  // namespace fwl
