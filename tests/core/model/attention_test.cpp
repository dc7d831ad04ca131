#include "core/model/attention.h"

#include <gtest/gtest.h>

#include <cmath>

namespace fwl {
namespace {

// softmax(q k^T / sqrt(E)) with the band written out.
Tensor dense_attention(const Tensor& q, const Tensor& k, const Tensor& v, int64_t window) {
  const int64_t t = q.size(2);
  const Tensor i = at::arange(t);
  const Tensor distance = i.unsqueeze(1) - i.unsqueeze(0);
  Tensor allowed = distance >= 0;
  if (window > 0) allowed = allowed & (distance < window);
  const Tensor scores = at::matmul(q, k.transpose(2, 3)) / std::sqrt(static_cast<double>(q.size(3)));
  return at::matmul(scores.masked_fill(allowed.logical_not(), -INFINITY).softmax(-1), v);
}

TEST(Attention, WindowInBlocksEqualsTheBandWithAllGradients) {
  at::manual_seed(1);
  for (const int64_t length : {8, 21, 24, 5}) {
    for (const int64_t window : {0, 1, 4, 8, 30}) {
      std::vector<Tensor> inputs;
      for (int i = 0; i < 3; ++i)
        inputs.push_back(at::randn({2, 3, length, 4}, at::kDouble).requires_grad_(true));
      const Tensor weight = at::randn({2, 3, length, 4}, at::kDouble);
      const auto gradients = [&](const Tensor& out) {
        return torch::autograd::grad({(out * weight).sum()}, inputs);
      };
      const Tensor ours = causal_attention(inputs[0], inputs[1], inputs[2], window);
      const Tensor dense = dense_attention(inputs[0], inputs[1], inputs[2], window);
      EXPECT_LT((ours - dense).abs().max().item<double>(), 1e-12)
          << "length " << length << " window " << window;
      const auto a = gradients(ours), b = gradients(dense);
      for (int i = 0; i < 3; ++i)
        EXPECT_LT((a[i] - b[i]).abs().max().item<double>(), 1e-12)
            << "length " << length << " window " << window;
    }
  }
}

TEST(Attention, QueriesOfTheLastPositionsSeeTheKeysBeforeThem) {
  at::manual_seed(2);
  for (const int64_t queries : {1, 7, 24}) {
    for (const int64_t window : {0, 1, 4, 8, 40}) {
      const auto random = [] { return at::randn({2, 3, 31, 4}, at::kDouble).requires_grad_(true); };
      const std::vector<Tensor> inputs = {random(), random(), random()};
      const Tensor weight = at::randn({2, 3, queries, 4}, at::kDouble);
      const auto last = [&](const Tensor& x) { return x.narrow(2, 31 - queries, queries); };
      const Tensor ours = causal_attention(last(inputs[0]), inputs[1], inputs[2], window);
      const Tensor dense = last(dense_attention(inputs[0], inputs[1], inputs[2], window));
      EXPECT_LT((ours - dense).abs().max().item<double>(), 1e-12) << queries << " queries, window " << window;
      const auto a = torch::autograd::grad({(ours * weight).sum()}, inputs);
      const auto b = torch::autograd::grad({(dense * weight).sum()}, inputs);
      for (int i = 0; i < 3; ++i)
        EXPECT_LT((a[i] - b[i]).abs().max().item<double>(), 1e-12)
            << queries << " queries, window " << window;
    }
  }
}

TEST(Attention, RotationDependsOnDistanceAlone) {
  at::manual_seed(1);
  const auto wide = at::TensorOptions().dtype(at::kDouble);
  const Tensor q = at::randn({1, 1, 1, 8}, wide), k = at::randn({1, 1, 1, 8}, wide);
  const auto score = [&](int64_t i, int64_t j) {
    return (rotate(q, rotary_table(i, 1, 8, 10000, wide)) * rotate(k, rotary_table(j, 1, 8, 10000, wide)))
        .sum()
        .item<double>();
  };
  EXPECT_NEAR(score(7, 3), score(104, 100), 1e-12);
  EXPECT_GT(std::abs(score(7, 3) - score(7, 4)), 1e-6);
  EXPECT_NEAR(score(5, 5), (q * k).sum().item<double>(), 1e-12);
}

}  // namespace
}  // namespace fwl
