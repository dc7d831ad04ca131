#include "core/base/hdf5_library.h"

#include <algorithm>
#include <cstdlib>

namespace fwl {

std::recursive_mutex& library_mutex() {
  static std::recursive_mutex mutex;
  return mutex;
}

void prepare_library() {
  static const bool done = [] {
    // At exit the library would close what a full disk kept from being closed, and crash on it. Files of ours
    // are flushed, synced and closed by their owners.
    H5dont_atexit();
    setenv("HDF5_USE_FILE_LOCKING", "FALSE", 0);
    H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
    return true;
  }();
  (void)done;
}

std::string library_text() {
  std::string text = "no details";
  H5Ewalk2(
      H5E_DEFAULT, H5E_WALK_UPWARD,
      [](unsigned n, const H5E_error2_t* error, void* out) -> herr_t {
        if (n == 0 && error->desc != nullptr) *static_cast<std::string*>(out) = error->desc;
        return 0;
      },
      &text);
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

}  // namespace fwl
