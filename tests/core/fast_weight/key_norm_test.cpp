#include "core/fast_weight/key_norm.h"

#include <gtest/gtest.h>

#include <cmath>

namespace fwl {
namespace {

TEST(KeyNorm, KeysHaveTheLengthOfTheWidthWhateverTheInputs) {
  const Tensor x = at::tensor({3.0, 4.0, 0.03, 0.04, 300.0, 400.0}).view({3, 2});
  const Tensor expected = at::tensor({3.0, 4.0}).to(at::kDouble) / 5 * std::sqrt(7.0);
  const Tensor difference = unit_keys(x.to(at::kDouble), 7) - expected;
  EXPECT_LT(difference[0].abs().max().item<double>(), 1e-6);
  EXPECT_LT(difference[2].abs().max().item<double>(), 1e-6);
  EXPECT_LT(difference[1].abs().max().item<double>(), 5e-3);  // epsilon is felt at a hundredth of that length
}

TEST(KeyNorm, KeysOfNothingAreNothingAndHaveAFiniteGradient) {
  const Tensor x = at::zeros({2, 5}, at::kDouble).requires_grad_(true);
  const Tensor key = unit_keys(x, 5);
  EXPECT_EQ(key.abs().max().item<double>(), 0);
  key.sum().backward();
  EXPECT_TRUE(x.grad().isfinite().all().item<bool>());
}

TEST(KeyNorm, LengthsInBfloat16AreTakenInFloat32) {
  const Tensor key = unit_keys(at::ones({1, 4096}, at::kBFloat16), 4096);
  EXPECT_EQ(key.scalar_type(), at::kBFloat16);
  EXPECT_EQ(key.min().item<double>(), 1.0);  // a bfloat16 sum of 4096 ones would stop at 256
}

}  // namespace
}  // namespace fwl
