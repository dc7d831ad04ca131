// The gradient of the likely tokens against the dense one: equal where all are likely, and within its bound
// where some are not.
#include "core/kernels/likely_gradient.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/fast_weight/loss_head.h"
#include "core/kernels/matmul.h"

namespace fwl {
namespace {

struct Rows {
  Tensor logits_nv, label_n, weight_vd, rest_row_d;

  LikelyGradient likely(double threshold) const {
    return likely_gradient(logits_nv, label_n, weight_vd, rest_row_d, threshold);
  }
};

// Peaked like those of a trained model: a few likely tokens, a long tail.
Rows rows_of(int64_t tokens, int64_t vocabulary, int64_t width, at::ScalarType type) {
  at::manual_seed(3);
  const Rows r{at::randn({tokens, vocabulary}, at::kDouble) * 3,
               at::randint(vocabulary, {tokens}, at::TensorOptions().dtype(at::kLong)),
               at::randn({vocabulary, width}, at::kDouble) + 1, at::randn({width}, at::kDouble)};
  return {r.logits_nv.to(type), r.label_n, r.weight_vd.to(type), r.rest_row_d.to(accumulate_type(type))};
}

// (p - y) E with p of the rows' own numbers, in float64; unlikely tokens with the row that stands for them.
Tensor dense(const Rows& r, double threshold) {
  const Tensor p_nv = at::softmax(r.logits_nv.to(at::kDouble), -1), weight_vd = r.weight_vd.to(at::kDouble);
  const Tensor likely_nv = at::where(p_nv >= threshold, p_nv, 0), rest_n1 = (p_nv - likely_nv).sum(1, true);
  return at::mm(likely_nv, weight_vd) + rest_n1 * r.rest_row_d.to(at::kDouble) -
         weight_vd.index_select(0, r.label_n);
}

TEST(LikelyGradient, IsThatOfTheTokensAboveTheThreshold) {
  for (const auto& [type, tolerance] :
       std::vector<std::pair<at::ScalarType, double>>{{at::kDouble, 1e-12}, {at::kFloat, 2e-5}}) {
    for (const int64_t vocabulary : {7, 64, 1000}) {
      const Rows r = rows_of(33, vocabulary, 20, type);
      for (const double threshold : {1e-9, 1e-4, 1e-2, 0.5}) {
        const LikelyGradient likely = r.likely(threshold);
        const Tensor expected_nd = dense(r, threshold), p_nv = at::softmax(r.logits_nv.to(at::kDouble), -1);
        EXPECT_LT((likely.gradient_nd.to(at::kDouble) - expected_nd).abs().max().item<double>(), tolerance)
            << type << ", V " << vocabulary << ", threshold " << threshold;
        EXPECT_TRUE(at::equal(likely.kept_n.to(at::kLong), (p_nv >= threshold).sum(1)));
        const Tensor rest_n = at::where(p_nv < threshold, p_nv, 0).sum(1);
        EXPECT_LT((likely.rest_n.to(at::kDouble) - rest_n).abs().max().item<double>(), 1e-6);
        EXPECT_LE(likely.kept_n.max().item<int>(), 1 / threshold);
        const Tensor nll_n = -at::log_softmax(r.logits_nv, -1).gather(1, r.label_n.unsqueeze(1)).squeeze(1);
        EXPECT_TRUE(at::allclose(likely.nll_n, nll_n, 1e-6, 1e-6));
      }
    }
  }
}

TEST(LikelyGradient, TakesAFactorOfEachRow) {
  for (const at::ScalarType type : {at::kDouble, at::kFloat}) {
    const Rows r = rows_of(33, 300, 20, type);
    const LikelyGradient plain = r.likely(1e-3);
    const Tensor weight_n = at::rand({33}, plain.nll_n.options());
    const LikelyGradient weighted =
        likely_gradient(r.logits_nv, r.label_n, r.weight_vd, r.rest_row_d, 1e-3, weight_n);
    EXPECT_TRUE(at::allclose(weighted.gradient_nd, plain.gradient_nd * weight_n.unsqueeze(1), 1e-5, 1e-6));
    EXPECT_TRUE(at::equal(weighted.nll_n, plain.nll_n));
  }
}

TEST(LikelyGradient, IsOffByAtMostTheRestTimesTheFarthestRow) {
  const Rows r = rows_of(200, 3000, 48, at::kDouble);
  const double farthest = (r.weight_vd - r.rest_row_d).norm(2, 1).max().item<double>();
  for (const double threshold : {1e-4, 1e-3, 1e-2, 0.1}) {
    const LikelyGradient likely = r.likely(threshold);
    const Tensor error_n = (likely.gradient_nd - dense(r, 0)).norm(2, 1);
    EXPECT_GT(error_n.max().item<double>(), 0) << threshold;
    EXPECT_TRUE((error_n <= likely.rest_n * farthest + 1e-12).all().item<bool>()) << threshold;
    EXPECT_LT(likely.kept_n.to(at::kDouble).mean().item<double>(), 1000) << threshold;
  }
}

TEST(LikelyGradient, TakesBfloat16AsStored) {
  const Rows r = rows_of(40, 500, 24, at::kBFloat16);
  const LikelyGradient likely = r.likely(1e-3);
  EXPECT_EQ(likely.gradient_nd.scalar_type(), at::kBFloat16);
  EXPECT_EQ(likely.nll_n.scalar_type(), at::kFloat);
  const Tensor expected_nd = dense(r, 1e-3);
  const double error = (likely.gradient_nd.to(at::kDouble) - expected_nd).norm().item<double>();
  EXPECT_LT(error / expected_nd.norm().item<double>(), 4e-3);
}

TEST(LikelyGradient, ARowDoesNotDependOnTheRowsBesideIt) {
  const Rows r = rows_of(64, 1000, 32, at::kFloat);
  const LikelyGradient all = r.likely(1e-3);
  for (const int64_t n : {0, 17, 63}) {
    const LikelyGradient one = likely_gradient(r.logits_nv.narrow(0, n, 1), r.label_n.narrow(0, n, 1),
                                               r.weight_vd, r.rest_row_d, 1e-3);
    EXPECT_TRUE(at::equal(one.gradient_nd, all.gradient_nd.narrow(0, n, 1)));
  }
}

TEST(InnerLossWithoutGradient, EqualsTheExactOneWhereEveryTokenIsLikely) {
  const Rows r = rows_of(150, 20000, 16, at::kDouble);
  const Tensor x_nd = at::randn({150, 16}, at::kDouble), weight_n = at::rand({150}, at::kDouble);
  const at::NoGradGuard no_grad;
  const Unembedding exactly{r.weight_vd, at::randn({20000}, at::kDouble), {}, {}};
  const InnerApproximation likely_alone{1e-300, false};
  const Unembedding unembedding = approximated(exactly, likely_alone);
  EXPECT_LT((unembedding.rest_row_d - r.weight_vd.mean(0)).abs().max().item<double>(), 1e-12);
  const InnerLoss exact = inner_loss(x_nd, exactly, r.label_n, weight_n);
  const InnerLoss likely = inner_loss_without_gradient(x_nd, unembedding, r.label_n, weight_n, likely_alone);
  EXPECT_LT((likely.nll_n - exact.nll_n).abs().max().item<double>(), 1e-11);
  EXPECT_LT((likely.gradient_nd - exact.gradient_nd).abs().max().item<double>(), 1e-11);
  EXPECT_TRUE((likely.kept_n == 20000).all().item<bool>());
}

TEST(InnerLossWithoutGradient, RefusesToBeDifferentiated) {
  const Rows r = rows_of(4, 50, 8, at::kDouble);
  EXPECT_ANY_THROW(inner_loss_without_gradient(at::randn({4, 8}, at::kDouble),
                                               {r.weight_vd, {}, r.rest_row_d, {}}, r.label_n,
                                               at::ones({4}, at::kDouble), {1e-3, false}));
}

}  // namespace
}  // namespace fwl
