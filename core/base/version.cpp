#include "core/base/version.h"

#include <torch/headeronly/version.h>

#include "core/base/error.h"

namespace fwl {
namespace {

std::string& commit() {
  static std::string text = "unknown";
  return text;
}

}  // namespace

std::string program_version() {
  return FWL_VERSION;
}

std::string libtorch_version() {
  return cat(TORCH_VERSION_MAJOR, ".", TORCH_VERSION_MINOR, ".", TORCH_VERSION_PATCH);
}

std::string compiler_version() {
#ifdef __clang__
  return cat("clang++ ", __clang_major__, ".", __clang_minor__, ".", __clang_patchlevel__);
#else
  return cat("g++ ", __GNUC__, ".", __GNUC_MINOR__, ".", __GNUC_PATCHLEVEL__);
#endif
}

std::string cuda_version() {
  return FWL_CUDA_VERSION;
}

void set_source_commit(const std::string& text) {
  commit() = text;
}

const std::string& source_commit() {
  return commit();
}

}  // namespace fwl
