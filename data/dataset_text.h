// The documents of a data set, written back as files.
#pragma once

#include <cstdint>
#include <string>

#include "data/dataset.h"

namespace fwl {

struct TextReport {
  int64_t documents = 0, bytes = 0;
  int64_t renamed = 0;  // documents whose name was taken
};

// Writes every document of `split` to `folder`/NAME, byte for byte as it was read; a file or folder name that
// is taken gets ".2", ".3", ... behind it. Memory does not grow with a document's length. Throws DataError
// for damaged data, for a name that leaves the folder, and when the disk is full.
TextReport write_documents(const Split& split, const std::string& folder);

}  // namespace fwl
