#include "core/kernels/row_products.h"

#include <gtest/gtest.h>

namespace fwl {
namespace {

Tensor random(at::IntArrayRef shape, at::ScalarType type, int seed) {
  at::manual_seed(static_cast<uint64_t>(seed));
  return at::randn(shape, at::TensorOptions().dtype(at::kDouble)).to(type);
}
double worst(const Tensor& a, const Tensor& b) {
  return (a - b).abs().max().item<double>();
}
double tolerance(at::ScalarType type) {
  return type == at::kDouble ? 1e-12 : 1e-4;
}

const auto kTypes = {at::kFloat, at::kDouble};

TEST(RowProducts, EqualTheAtenProductsForEveryShape) {
  for (const at::ScalarType type : kTypes) {
    for (const int64_t n : {1, 3, 4, 9}) {
      for (const int64_t k : {1, 7, 16, 33, 200}) {
        const int64_t m = 21;
        const Tensor x = random({n, k}, type, 1), w = random({m, k}, type, 2), bias = random({m}, type, 3);
        EXPECT_LT(worst(row_product(x, w, bias), by_aten::row_product(x, w, bias)), tolerance(type));
        EXPECT_LT(worst(row_product(x, w), by_aten::row_product(x, w)), tolerance(type));
        EXPECT_LT(worst(row_product_transposed(x, w.t()), by_aten::row_product_transposed(x, w.t())),
                  tolerance(type));
      }
    }
  }
}

TEST(RowProducts, ARowHasTheSameBitsInEveryCompany) {
  for (const at::ScalarType type : kTypes) {
    for (const int64_t k : {24, 33, 256}) {
      const Tensor x = random({11, k}, type, 1), w = random({50, k}, type, 2), bias = random({50}, type, 3);
      const Tensor all = row_product(x, w, bias), turned = row_product_transposed(x, w.t().contiguous());
      for (int64_t n = 0; n < 11; ++n) {
        EXPECT_TRUE(at::equal(row_product(x.narrow(0, n, 1), w, bias), all.narrow(0, n, 1)));
        EXPECT_TRUE(at::equal(row_product_transposed(x.narrow(0, n, 1), w.t()), turned.narrow(0, n, 1)));
      }
      EXPECT_TRUE(at::equal(row_product(x.narrow(0, 2, 7), w, bias), all.narrow(0, 2, 7)));
    }
  }
}

TEST(RowProducts, TokensAddedTogetherEqualTokensAddedInTurnBitForBit) {
  for (const at::ScalarType type : kTypes) {
    const Tensor v = random({6, 9}, type, 1), k = random({6, 37}, type, 2);
    const std::vector<double> decay = {0.9, 0.5, 0, 1, 0.998, 0.7};
    Tensor together = random({9, 37}, type, 3), in_turn = together.clone(), by_product = together.clone();
    add_outer_products_(together, decay, v, k);
    for (int64_t t = 0; t < 6; ++t)
      add_outer_products_(in_turn, {decay[static_cast<size_t>(t)]}, v.narrow(0, t, 1), k.narrow(0, t, 1));
    by_aten::add_outer_products_(by_product, decay, v, k);
    EXPECT_TRUE(at::equal(together, in_turn));
    EXPECT_LT(worst(together, by_product), tolerance(type));
  }
}

// The window's attention written out.
Tensor windowed(const Tensor& q, const Tensor& k, const Tensor& v, int64_t reach) {
  const int64_t tokens = q.size(0);
  const auto heads_first = [](const Tensor& x) { return x.transpose(0, 1); };
  Tensor score = at::matmul(heads_first(q), heads_first(k).transpose(1, 2)) / std::sqrt(q.size(2));
  const Tensor i = at::arange(tokens).unsqueeze(1), j = at::arange(tokens);
  score = score.masked_fill((j > i).logical_or(i - j >= reach), -INFINITY);
  return at::matmul(score.softmax(-1), heads_first(v)).transpose(0, 1);
}

TEST(RowProducts, ARingOfTheWindowsSizeIsTheWindow) {
  for (const at::ScalarType type : kTypes) {
    const int64_t heads = 3, e = 10, tokens = 23, reach = 5;
    const Tensor q = random({tokens, heads, e}, type, 1), k = random({tokens, heads, e}, type, 2),
                 v = random({tokens, heads, e}, type, 3);
    const auto ring = [&] {
      return AttentionRing{at::zeros({heads, reach, e}, type), at::zeros({heads, reach, e}, type)};
    };
    AttentionRing whole = ring(), cut = ring(), plain = ring();
    const Tensor expected = attend_ring(whole, q, k, v, 0, reach);
    EXPECT_LT(worst(expected, windowed(q, k, v, reach)), tolerance(type));
    EXPECT_LT(worst(expected, by_aten::attend_ring(plain, q, k, v, 0, reach)), tolerance(type));
    for (int64_t first = 0; first < tokens; first += 4) {
      const int64_t count = std::min<int64_t>(4, tokens - first);
      const auto part = [&](const Tensor& x) { return x.narrow(0, first, count); };
      EXPECT_TRUE(at::equal(attend_ring(cut, part(q), part(k), part(v), first, reach), part(expected)));
    }
  }
}

}  // namespace
}  // namespace fwl
