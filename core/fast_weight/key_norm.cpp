#include "core/fast_weight/key_norm.h"

#include "core/kernels/matmul.h"

namespace fwl {

Tensor unit_keys(const Tensor& x, int64_t reference) {
  constexpr double kEpsilon = 1e-6;
  const auto type = accumulate_type(x.scalar_type());
  const Tensor mean =
      at::sum(x.square(), at::IntArrayRef{-1}, /*keepdim=*/true, type) / static_cast<double>(reference);
  return x * (mean + kEpsilon).rsqrt().to(x.scalar_type());
}

}  // namespace fwl
