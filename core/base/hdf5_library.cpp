#include "core/base/hdf5_library.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>

namespace fwl {
namespace {

void prepare_library() {
  static const bool done = [] {
    // At exit the library would close what a full disk kept from being closed, and crash on it. Files of ours
    // are flushed, synced and closed by their owners.
    H5dont_atexit();
    setenv("HDF5_USE_FILE_LOCKING", "FALSE", 0);
    return true;
  }();
  (void)done;
}

// The library's text has "..., errno = 24, error message = 'Too many open files'" where the system refused. A
// path may come before it.
int system_error_in(const std::string& text) {
  const std::string key = "errno = ";
  const size_t at = text.rfind(key);
  return at == std::string::npos ? 0 : std::atoi(text.c_str() + at + key.size());
}

herr_t note(unsigned number, const H5E_error2_t* error, void* out) {
  auto& problem = *static_cast<LibraryProblem*>(out);
  if (error->desc == nullptr) return 0;
  if (number == 0) problem.text = error->desc;
  if (problem.system_error == 0) problem.system_error = system_error_in(error->desc);
  if (problem.system_error == 0 && error->maj_num == H5E_RESOURCE && error->min_num == H5E_NOSPACE)
    problem.system_error = ENOMEM;
  return 0;
}

}  // namespace

std::unique_lock<std::recursive_mutex> library_lock() {
  static std::recursive_mutex mutex;
  std::unique_lock lock(mutex);
  prepare_library();
  static thread_local const bool is_silent = H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr) >= 0;
  (void)is_silent;
  return lock;
}

LibraryProblem library_problem() {
  LibraryProblem problem;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, note, &problem);
  std::replace(problem.text.begin(), problem.text.end(), '\n', ' ');
  return problem;
}

}  // namespace fwl
