#include "core/fast_weight/key_norm.h"

#include <cmath>

#include "core/kernels/norm.h"

namespace fwl {

// x sqrt(r / (|x|^2 + epsilon r)) over k elements is sqrt(r / k) times an RMSNorm whose epsilon is epsilon r
// / k.
Tensor unit_keys(const Tensor& x, int64_t reference) {
  constexpr double kEpsilon = 1e-6;
  const int64_t elements = x.size(-1);
  const double ratio = static_cast<double>(reference) / static_cast<double>(elements);
  const Tensor scale = at::full({elements}, std::sqrt(ratio), x.options().requires_grad(false));
  return add_norm(x, {}, scale, {}, kEpsilon * ratio).norm;
}

}  // namespace fwl
