#include "core/kernels/step_rows.h"

#include <gtest/gtest.h>

#include "core/kernels/matmul.h"

namespace fwl {
namespace {

TEST(StepRows, AStepSizeIsUsedInTheAccumulationType) {
  // 1 + 2^-10 is 1 in bfloat16; 1 - (1 + 2^-10) is a number of it.
  const double step = 1 + 0x1p-10;
  for (const at::ScalarType type : {at::kBFloat16, at::kFloat, at::kDouble}) {
    const auto wide = at::TensorOptions().dtype(accumulate_type(type));
    for (const Tensor& scale : {at::full({4}, step, wide), at::full({}, step, wide)}) {
      SCOPED_TRACE(testing::Message() << type << ", scale " << scale.dim());
      const Tensor x = at::ones({3, 4}, type).requires_grad_(true),
                   r = at::ones({3, 4}, type).requires_grad_(true), leaf = scale.clone().requires_grad_(true);
      const Tensor y = step_rows(x, r, leaf);
      EXPECT_EQ(y.scalar_type(), type);
      EXPECT_TRUE(at::equal(y.to(at::kDouble), at::full({3, 4}, -0x1p-10, at::kDouble)));
      const auto bars = torch::autograd::grad({y.to(at::kDouble).sum()}, {x, r, leaf});
      EXPECT_EQ(bars[0].scalar_type(), type);
      EXPECT_EQ(bars[1].scalar_type(), type);
      EXPECT_EQ(bars[2].scalar_type(), leaf.scalar_type());
      EXPECT_TRUE(at::equal(bars[2].to(at::kDouble),
                            at::full(scale.sizes(), scale.dim() == 1 ? -3 : -12, at::kDouble)));
    }
  }
}

}  // namespace
}  // namespace fwl
