// The two heads against autograd of the plain formulas, in float64, over several blocks of tokens.
#include "core/fast_weight/loss_head.h"

#include <gtest/gtest.h>

#include "core/base/autograd.h"

namespace fwl {
namespace {

struct HeadCase {
  Tensor x_nd, weight_vd, bias_v, label_n, weight_n, nll_bar_n, gradient_bar_nd;
};

HeadCase make_case(int64_t tokens, int64_t vocabulary) {
  at::manual_seed(5);
  const auto wide = at::TensorOptions().dtype(at::kDouble);
  HeadCase c{at::randn({tokens, 5}, wide),
             at::randn({vocabulary, 5}, wide),
             at::randn({vocabulary}, wide),
             at::randint(vocabulary, {tokens}, at::TensorOptions().dtype(at::kLong)),
             (at::rand({tokens}, wide) < 0.7).to(at::kDouble) * 0.6,
             at::randn({tokens}, wide),
             at::randn({tokens, 5}, wide)};
  for (Tensor* leaf : {&c.x_nd, &c.weight_vd, &c.bias_v}) leaf->requires_grad_(true);
  return c;
}

// Of x, E, bias and, where they are leaves, the weights.
std::vector<Tensor> leaf_gradients(const HeadCase& c, const Tensor& objective) {
  std::vector<Tensor> leaves = {c.x_nd, c.weight_vd, c.bias_v};
  if (c.weight_n.requires_grad()) leaves.push_back(c.weight_n);
  std::vector<Tensor> gradients =
      torch::autograd::grad({objective}, leaves, {}, {}, false, /*allow_unused=*/true);
  for (size_t i = 0; i < leaves.size(); ++i)
    if (!gradients[i].defined()) gradients[i] = at::zeros_like(leaves[i]);
  return gradients;
}

void expect_close(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  for (size_t i = 0; i < a.size(); ++i)
    EXPECT_LT((a[i] - b[i]).abs().max().item<double>(), 1e-10) << "array " << i;
}

TEST(InnerLoss, EqualsAutogradOfItsDefinitionInBothOrders) {
  // More tokens than one block holds (a block is at least 64 tokens).
  HeadCase c = make_case(150, 20000);
  c.weight_n.requires_grad_(true);
  const Tensor log_p_nv = at::log_softmax(at::addmm(c.bias_v, c.x_nd, c.weight_vd.t()), -1);
  const Tensor nll_n = log_p_nv.gather(1, c.label_n.unsqueeze(1)).squeeze(1).neg();
  const Tensor gradient_nd = torch::autograd::grad({at::dot(nll_n, c.weight_n)}, {c.x_nd}, {}, true, true)[0];
  const auto plain = leaf_gradients(c, at::dot(nll_n, c.nll_bar_n) + (gradient_nd * c.gradient_bar_nd).sum());

  for (const Residuals residuals : {Residuals::kKept, Residuals::kComputedAgain}) {
    const InnerLoss op = inner_loss(c.x_nd, {c.weight_vd, c.bias_v}, c.label_n, c.weight_n, residuals);
    expect_close({op.nll_n, op.gradient_nd}, {nll_n, gradient_nd});
    expect_close(
        leaf_gradients(c, at::dot(op.nll_n, c.nll_bar_n) + (op.gradient_nd * c.gradient_bar_nd).sum()),
        plain);
  }
}

// Loss and gradient by autograd, where logits of unlikely tokens are constants in the errors p - y.
InnerLoss plain_inner_loss(const HeadCase& c, double threshold) {
  const Tensor logits_nv = at::addmm(c.bias_v, c.x_nd, c.weight_vd.t());
  const Tensor log_p_nv = at::log_softmax(logits_nv, -1);
  const Tensor is_likely_nv = log_p_nv.detach().exp() >= threshold;
  const Tensor seen_nv =
      threshold < 1 ? at::where(is_likely_nv, logits_nv, logits_nv.detach()) : logits_nv.detach();
  const Tensor error_nv = at::softmax(seen_nv, -1) - at::one_hot(c.label_n, logits_nv.size(1));
  return {log_p_nv.gather(1, c.label_n.unsqueeze(1)).squeeze(1).neg(),
          at::mm(error_nv * c.weight_n.unsqueeze(1), c.weight_vd),
          {},
          {}};
}

TEST(InnerLoss, WithAHessianThresholdIsThatOfConstantUnlikelyLogits) {
  HeadCase c = make_case(150, 20000);
  c.weight_n.requires_grad_(true);
  const auto gradients = [&](const InnerLoss& loss, bool both) {
    const Tensor of_loss = at::dot(loss.nll_n, c.nll_bar_n);
    return leaf_gradients(c, both ? of_loss + (loss.gradient_nd * c.gradient_bar_nd).sum() : of_loss);
  };
  for (const double threshold : {1e-300, 1e-9, 1e-4, 1e-2, 1.0}) {
    for (const Residuals residuals : {Residuals::kKept, Residuals::kComputedAgain}) {
      SCOPED_TRACE(threshold);
      const auto op = [&] {
        return inner_loss(c.x_nd, {c.weight_vd, c.bias_v}, c.label_n, c.weight_n, residuals, threshold);
      };
      const InnerLoss whole = op(), plain = plain_inner_loss(c, threshold);
      expect_close({whole.nll_n, whole.gradient_nd}, {plain.nll_n, plain.gradient_nd});
      expect_close(gradients(whole, true), gradients(plain, true));
      expect_close(gradients(op(), false), gradients(plain_inner_loss(c, threshold), false));
    }
  }
}

TEST(InnerLoss, ALossAloneGivesTheWeightsNoGradient) {
  // The weights have to do with the gradient alone. Zeros in its place would be read for nothing.
  for (const double threshold : {0.0, 1e-2, 1.0}) {
    HeadCase c = make_case(20, 300);
    c.weight_n.requires_grad_(true);
    const InnerLoss op =
        inner_loss(c.x_nd, {c.weight_vd, c.bias_v}, c.label_n, c.weight_n, Residuals::kKept, threshold);
    const auto bars = torch::autograd::grad({at::dot(op.nll_n, c.nll_bar_n)}, {c.x_nd, c.weight_n}, {}, {},
                                            false, /*allow_unused=*/true);
    EXPECT_TRUE(bars[0].defined()) << threshold;
    EXPECT_FALSE(bars[1].defined()) << threshold;
  }
}

TEST(LossHeads, TakeABatchOfNoToken) {
  const HeadCase c = make_case(0, 300);
  for (const double threshold : {0.0, 1e-2, 1.0}) {
    for (const Residuals residuals : {Residuals::kKept, Residuals::kComputedAgain}) {
      const InnerLoss inner =
          inner_loss(c.x_nd, {c.weight_vd, c.bias_v}, c.label_n, c.weight_n, residuals, threshold);
      const OuterLoss outer = outer_loss(c.x_nd, {c.weight_vd, c.bias_v}, c.label_n, c.weight_n);
      EXPECT_EQ(inner.gradient_nd.sizes(), c.x_nd.sizes());
      EXPECT_EQ(outer.total.item<double>(), 0);
      for (const Tensor& bar : leaf_gradients(c, inner.nll_n.sum() + inner.gradient_nd.sum() + outer.total))
        EXPECT_EQ(bar.abs().sum().item<double>(), 0) << threshold;
    }
  }
  const at::NoGradGuard no_grad;
  for (const InnerApproximation& inner : {InnerApproximation{}, InnerApproximation{0.01, false}}) {
    const Unembedding unembedding = approximated({c.weight_vd, c.bias_v}, inner);
    EXPECT_EQ(inner_loss_without_gradient(c.x_nd, unembedding, c.label_n, c.weight_n, inner).nll_n.numel(),
              0);
  }
}

TEST(InnerLoss, ResidualsOfAllInnerLossesShareOneLimit) {
  const at::Device gpu(at::kCUDA, 0);
  const auto keeps = [&](int64_t tokens, int64_t losses, at::ScalarType type, at::Device device) {
    return keeps_residuals(tokens, 1 << 16, type, device, losses);
  };
  EXPECT_TRUE(keeps(1 << 15, 1, at::kBFloat16, gpu)) << "4 GiB";
  EXPECT_FALSE(keeps((1 << 15) + 1, 1, at::kBFloat16, gpu));
  EXPECT_FALSE(keeps(1 << 15, 2, at::kBFloat16, gpu));
  EXPECT_TRUE(keeps(1 << 12, 8, at::kBFloat16, gpu));
  EXPECT_FALSE(keeps(1 << 15, 1, at::kFloat, gpu));
  EXPECT_TRUE(keeps(1 << 12, 1, at::kFloat, at::kCPU)) << "1 GiB";
  EXPECT_FALSE(keeps(1 << 12, 2, at::kFloat, at::kCPU));
}

TEST(OuterLoss, EqualsAutogradOfCrossEntropy) {
  const HeadCase c = make_case(150, 20000);
  const OuterLoss op = outer_loss(c.x_nd, {c.weight_vd, c.bias_v}, c.label_n, c.weight_n);
  const Tensor log_p_nv = at::log_softmax(at::addmm(c.bias_v, c.x_nd, c.weight_vd.t()), -1);
  const Tensor nll_n = log_p_nv.gather(1, c.label_n.unsqueeze(1)).squeeze(1).neg();
  expect_close({op.total, op.nll_n}, {at::dot(nll_n, c.weight_n), nll_n});
  expect_close(leaf_gradients(c, op.total * 1.7), leaf_gradients(c, at::dot(nll_n, c.weight_n) * 1.7));
}

TEST(OuterLoss, AKnownCotangentOfOneIsNotMultipliedWith) {
  const HeadCase c = make_case(70, 300);
  const auto gradients = [&](const Tensor& cotangent) {
    const OuterLoss op = outer_loss(c.x_nd, {c.weight_vd, c.bias_v}, c.label_n, c.weight_n);
    return torch::autograd::grad({op.total}, {c.x_nd, c.weight_vd, c.bias_v}, {cotangent});
  };
  const Tensor one = unit_cotangent(c.weight_n);
  const auto by_one = gradients(one), by_ones = gradients(at::ones({}, one.options())),
             by_three = gradients(one * 3);
  for (size_t i = 0; i < by_one.size(); ++i) {
    EXPECT_TRUE(at::equal(by_one[i], by_ones[i])) << i;
    EXPECT_LT((by_three[i] - 3 * by_one[i]).abs().max().item<double>(), 1e-12) << i;
    EXPECT_GT(by_one[i].abs().max().item<double>(), 0) << i;
  }
}

TEST(OuterLoss, WithoutGradientGivesTheSameValues) {
  const HeadCase c = make_case(70, 300);
  const OuterLoss with = outer_loss(c.x_nd, {c.weight_vd, c.bias_v}, c.label_n, c.weight_n);
  const at::NoGradGuard no_grad;
  const OuterLoss without = outer_loss(c.x_nd, {c.weight_vd, c.bias_v}, c.label_n, c.weight_n);
  EXPECT_TRUE(at::equal(with.nll_n, without.nll_n));
}

}  // namespace
}  // namespace fwl
