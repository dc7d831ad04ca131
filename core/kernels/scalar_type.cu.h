// Element types of the CUDA kernels. Sums are float, or double for double.
#pragma once

namespace fwl::cuda {

enum class ScalarType { kFloat, kDouble, kBFloat16 };

}  // namespace fwl::cuda
