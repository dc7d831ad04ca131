#include "launch/evaluation/intervals.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace fwl {
namespace {

TEST(BootstrapInterval, IsThatOfTheNormalDistributionForManyLikeDocuments) {
  std::mt19937_64 engine(3);
  std::normal_distribution<double> normal(5, 2);
  std::vector<double> nats, tokens;
  for (int i = 0; i < 400; ++i) {
    nats.push_back(normal(engine));
    tokens.push_back(1);
  }
  double mean = 0, square = 0;
  for (const double x : nats) mean += x / 400;
  for (const double x : nats) square += (x - mean) * (x - mean) / 399;
  const double half = 1.96 * std::sqrt(square / 400);
  const auto interval = bootstrap_interval(nats, tokens);
  ASSERT_TRUE(interval);
  EXPECT_NEAR(interval->low, mean - half, 0.1 * half);
  EXPECT_NEAR(interval->high, mean + half, 0.1 * half);
}

TEST(BootstrapInterval, CountsDocumentsNotTokens) {
  // A hundred times the tokens in the same documents: no narrower.
  const std::vector<double> nats = {10, 40, 20, 50}, tokens = {10, 20, 10, 20};
  std::vector<double> many_nats, many_tokens;
  for (size_t i = 0; i < nats.size(); ++i) {
    many_nats.push_back(100 * nats[i]);
    many_tokens.push_back(100 * tokens[i]);
  }
  const auto few = bootstrap_interval(nats, tokens), many = bootstrap_interval(many_nats, many_tokens);
  EXPECT_NEAR(few->low, many->low, 1e-12);
  EXPECT_NEAR(few->high, many->high, 1e-12);
  EXPECT_GT(few->high, few->low);
}

TEST(BootstrapInterval, PairedDifferencesAreNarrowerThanTheirParts) {
  // Documents differ much, the two modes little and always by a tenth.
  std::vector<double> a, difference, tokens;
  for (int i = 0; i < 60; ++i) {
    a.push_back(100.0 * (1 + i % 7));
    difference.push_back(-10.0);
    tokens.push_back(100);
  }
  const auto paired = bootstrap_interval(difference, tokens), alone = bootstrap_interval(a, tokens);
  EXPECT_NEAR(paired->low, -0.1, 1e-12);
  EXPECT_NEAR(paired->high, -0.1, 1e-12);
  EXPECT_GT(alone->high - alone->low, 0.5);
}

TEST(BootstrapInterval, IsTheSameInEveryRunAndAnotherWithAnotherSeed) {
  const std::vector<double> nats = {1, 2, 3, 5, 8}, tokens = {1, 1, 1, 1, 1};
  const auto a = bootstrap_interval(nats, tokens), b = bootstrap_interval(nats, tokens);
  EXPECT_EQ(a->low, b->low);
  EXPECT_EQ(a->high, b->high);
  // Fixed by the standard's engine and the mapping of this file: other machines get these very numbers.
  EXPECT_EQ(bootstrap_interval(nats, tokens, 3, 7)->low, bootstrap_interval(nats, tokens, 3, 7)->low);
  EXPECT_NE(bootstrap_interval(nats, tokens, 3, 7)->low, bootstrap_interval(nats, tokens, 3, 8)->low);
}

TEST(BootstrapInterval, OfOneDocumentIsNotMadeUp) {
  EXPECT_FALSE(bootstrap_interval({3.0}, {2.0}));
}

}  // namespace
}  // namespace fwl
