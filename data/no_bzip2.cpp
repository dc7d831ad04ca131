// In place of bzip2_source.cpp where libbz2-dev was not there to build with.
#include "data/decompressor.h"

namespace fwl {

std::unique_ptr<ByteSource> open_bzip2(std::unique_ptr<ByteSource>, const std::string& path) {
  throw UnavailableError(cat("'", path,
                             "' is bzip2 data, which this build does not read (libbz2-dev was not there when "
                             "it was built). Unpack the file first, or install libbz2-dev and build again."));
}

}  // namespace fwl
