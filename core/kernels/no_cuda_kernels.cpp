// Stands in for the *_cuda.cpp files in a build without CUDA.
#include "core/base/error.h"
#include "core/kernels/softmax_rows_cuda.h"

namespace fwl::cuda {
namespace {
[[noreturn]] void refuse() {
  throw ConfigError(
      "a GPU tensor reached a build without CUDA (its kernels are not compiled in). Configure with "
      "-DFWL_CUDA=ON.");
}
}  // namespace

Tensor cross_entropy_gradient_(Tensor&, const Tensor&, const Tensor&) {
  refuse();
}
void cross_entropy_gradient_backward_(Tensor&, Tensor&, const Tensor&, const Tensor&, const Tensor&) {
  refuse();
}

}  // namespace fwl::cuda
