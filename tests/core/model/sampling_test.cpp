#include "core/model/sampling.h"

#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>

#include <set>

namespace fwl {
namespace {

// Probabilities 0.5, 0.25, 0.15, 0.1 of tokens 2, 0, 3, 1.
Tensor logits() {
  return at::tensor({0.25, 0.1, 0.5, 0.15}, at::kDouble).log();
}

std::set<int64_t> drawn(const SamplingOptions& options, int64_t draws = 400) {
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(uint64_t{3});
  std::set<int64_t> tokens;
  for (int64_t i = 0; i < draws; ++i) tokens.insert(sample_token(logits(), options, generator));
  return tokens;
}

TEST(Sampling, TemperatureZeroIsTheMostProbableToken) {
  EXPECT_EQ(drawn({0.0, 0, 1.0}), (std::set<int64_t>{2}));
}

TEST(Sampling, AnyTemperatureAboveZeroDraws) {
  for (const double small : {5e-324, 1e-320, 1e-300, 1e-45}) {
    EXPECT_EQ(drawn({small, 0, 1.0}, 20), (std::set<int64_t>{2})) << small;
    EXPECT_EQ(drawn({small, 3, 0.9}, 20), (std::set<int64_t>{2})) << small;
  }
  EXPECT_EQ(drawn({1e308, 0, 1.0}), (std::set<int64_t>{0, 1, 2, 3}));
}

TEST(Sampling, TopKKeepsTheMostProbableTokens) {
  EXPECT_EQ(drawn({1.0, 0, 1.0}), (std::set<int64_t>{0, 1, 2, 3}));
  EXPECT_EQ(drawn({1.0, 2, 1.0}), (std::set<int64_t>{0, 2}));
  EXPECT_EQ(drawn({1.0, 9, 1.0}), (std::set<int64_t>{0, 1, 2, 3}));
}

TEST(Sampling, TopPKeepsTheFewestTokensThatReachIt) {
  EXPECT_EQ(drawn({1.0, 0, 0.3}), (std::set<int64_t>{2}));
  EXPECT_EQ(drawn({1.0, 0, 0.6}), (std::set<int64_t>{0, 2}));
  EXPECT_EQ(drawn({1.0, 0, 0.8}), (std::set<int64_t>{0, 2, 3}));
  EXPECT_EQ(drawn({1.0, 2, 0.95}), (std::set<int64_t>{0, 2}));  // of top_k's 2/3 and 1/3
}

TEST(Sampling, DrawsFollowTheProbabilities) {
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(uint64_t{4});
  std::vector<double> counts(4, 0);
  const int64_t draws = 20000;
  for (int64_t i = 0; i < draws; ++i)
    counts[static_cast<size_t>(sample_token(logits(), {1.0, 0, 1.0}, generator))] += 1.0 / draws;
  const std::vector<double> expected = {0.25, 0.1, 0.5, 0.15};
  for (size_t v = 0; v < 4; ++v) EXPECT_NEAR(counts[v], expected[v], 0.015);
}

}  // namespace
}  // namespace fwl
