// Rounding to 8-bit floats, the product of rounded factors, and the inner loss made from it.
#include "core/kernels/float8_product.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "core/fast_weight/loss_head.h"

namespace fwl {
namespace {

class Float8Product : public testing::Test {
 protected:
  void SetUp() override { at::manual_seed(4); }

  // What a CPU keeps of the rows: the rounded numbers themselves.
  static Tensor rounded(const Tensor& weight_vd) { return float8_rows(weight_vd).rows_vd; }
  static Tensor product(const Tensor& x_nd, const Tensor& weight_vd) {
    Tensor out_nv = at::empty({x_nd.size(0), weight_vd.size(0)}, x_nd.options());
    float8_product_out(out_nv, x_nd, float8_rows(weight_vd));
    return out_nv;
  }
  // The nearest number with 4 bits of significand, from 2^-6 to 448; below, the nearest multiple of 2^-9.
  static double e4m3(double value) {
    const double size = std::min(std::abs(value), 448.0);
    const int exponent = size < 0x1p-6 ? -6 : std::ilogb(size);
    const double step = std::ldexp(1.0, exponent - 3);
    return std::copysign(std::nearbyint(size / step) * step, value);
  }

  const at::NoGradGuard no_grad_;
};

TEST_F(Float8Product, RoundsEntriesToTheNearest) {
  const Tensor x_nd = at::randn({1, 64}, at::kDouble) * at::logspace(-4, 2, 64, 10, at::kDouble);
  // Against rows of the identity a product is the rounded x.
  const Tensor y_nd = product(x_nd, at::eye(64, at::kDouble));
  for (int64_t i = 0; i < 64; ++i) {
    const double x = x_nd[0][i].item<double>(), y = y_nd[0][i].item<double>();
    EXPECT_EQ(y, e4m3(x)) << x;
    EXPECT_LE(std::abs(y - x), std::abs(x) / 16 + 0x1p-10) << x;
  }
}

TEST_F(Float8Product, ScalesRowsToTheirLargestEntry) {
  for (const double size : {1e-6, 0.02, 1.0, 1e6}) {
    const Tensor weight_vd = at::randn({50, 24}, at::kDouble) * size;
    const Tensor off_vd = (rounded(weight_vd) - weight_vd).abs();
    const double scale = std::exp2(std::ceil(std::log2(weight_vd.abs().max().item<double>() / 448)));
    EXPECT_TRUE((off_vd <= weight_vd.abs() / 16 + scale * 0x1p-10).all().item<bool>()) << size;
    EXPECT_GT(off_vd.max().item<double>(), 1e-3 * size);
    for (const int64_t i : {0, 7, 1199})
      EXPECT_EQ(rounded(weight_vd).flatten()[i].item<double>(),
                e4m3(weight_vd.flatten()[i].item<double>() / scale) * scale);
  }
  EXPECT_TRUE(at::equal(rounded(at::zeros({4, 8}, at::kDouble)), at::zeros({4, 8}, at::kDouble)));
}

TEST_F(Float8Product, HoldsLargeInputsAtTheLargestNumber) {
  Tensor x_nd = at::zeros({2, 4}, at::kDouble);
  x_nd[0][1] = 1e5;
  x_nd[1][2] = -1e5;
  const Tensor y_nd = product(x_nd, at::eye(4, at::kDouble));
  EXPECT_EQ(y_nd[0][1].item<double>(), 448);
  EXPECT_EQ(y_nd[1][2].item<double>(), -448);
}

TEST_F(Float8Product, MultipliesTheRoundedFactorsInTheirType) {
  const auto narrow = [](const Tensor& x) { return x.to(at::kBFloat16); };
  const Tensor x_nd = narrow(at::randn({30, 40}, at::kDouble)).to(at::kDouble),
               weight_vd = narrow(at::randn({70, 40}, at::kDouble)).to(at::kDouble);
  const Tensor x8_nd = product(x_nd, at::eye(40, at::kDouble));
  const Tensor expected_nv = at::mm(x8_nd, rounded(weight_vd).t());
  EXPECT_LT((product(x_nd, weight_vd) - expected_nv).abs().max().item<double>(), 1e-12);
  EXPECT_GT((product(x_nd, weight_vd) - at::mm(x_nd, weight_vd.t())).abs().max().item<double>(), 1e-2);
  const Tensor narrow_nv = product(narrow(x_nd), narrow(weight_vd));
  EXPECT_EQ(narrow_nv.scalar_type(), at::kBFloat16);
  EXPECT_LT(
      (narrow_nv.to(at::kDouble) - expected_nv).norm().item<double>() / expected_nv.norm().item<double>(),
      5e-3);
  EXPECT_FALSE(multiplies_float8(weight_vd)) << "a CPU has no such products";
}

TEST_F(Float8Product, GivesTheInnerLossItsLogitsAlone) {
  const int64_t tokens = 40, vocabulary = 300, width = 24;
  const Tensor x_nd = at::randn({tokens, width}, at::kDouble), weight_n = at::rand({tokens}, at::kDouble),
               label_n = at::randint(vocabulary, {tokens}, at::kLong);
  const Unembedding exactly{
      at::randn({vocabulary, width}, at::kDouble), at::randn({vocabulary}, at::kDouble), {}, {}};
  const Tensor logits_nv = product(x_nd, exactly.weight_vd) + exactly.bias_v;
  Tensor error_nv = at::softmax(logits_nv, -1);
  const Tensor nll_n = -at::log_softmax(logits_nv, -1).gather(1, label_n.unsqueeze(1)).squeeze(1);
  error_nv.scatter_add_(1, label_n.unsqueeze(1), at::full({tokens, 1}, -1, at::kDouble));
  const Tensor expected_nd = at::mm(error_nv, exactly.weight_vd) * weight_n.unsqueeze(1);
  for (const double threshold : {0.0, 1e-300}) {
    const InnerApproximation approximation{threshold, true};
    const InnerLoss loss = inner_loss_without_gradient(x_nd, approximated(exactly, approximation), label_n,
                                                       weight_n, approximation);
    EXPECT_LT((loss.nll_n - nll_n).abs().max().item<double>(), 1e-9);
    EXPECT_LT((loss.gradient_nd - expected_nd).abs().max().item<double>(), 1e-9);
    EXPECT_EQ(loss.kept_n.defined(), threshold > 0);
  }
  const InnerLoss exact = inner_loss(x_nd, exactly, label_n, weight_n);
  const double off =
      (exact.gradient_nd - expected_nd).norm().item<double>() / expected_nd.norm().item<double>();
  EXPECT_GT(off, 1e-4);
  EXPECT_LT(off, 0.2);
}

}  // namespace
}  // namespace fwl
