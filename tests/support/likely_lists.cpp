#include "tests/support/likely_lists.h"

#include <gtest/gtest.h>

namespace fwl {
namespace {

// Probabilities by token, 0 where a token is not listed, [n, V] in float64. Nothing follows the list's end.
Tensor by_token(const LikelyTokens& likely, int64_t vocabulary) {
  const Tensor token_nk = likely.token_nk.cpu().to(at::kLong),
               probability_nk = likely.probability_nk.cpu().to(at::kDouble);
  const Tensor ended_nk = (token_nk < 0).to(at::kInt);
  EXPECT_TRUE(at::equal(std::get<0>(ended_nk.sort(1)), ended_nk)) << "a token behind the end of a list";
  EXPECT_EQ((probability_nk * ended_nk).abs().max().item<double>(), 0) << "a probability behind it";
  const Tensor all_nv = at::zeros({token_nk.size(0), vocabulary + 1}, at::kDouble);
  all_nv.scatter_(1, token_nk.where(token_nk >= 0, vocabulary), probability_nk);
  return all_nv.narrow(1, 0, vocabulary);
}

}  // namespace

void expect_same_lists(const LikelyTokens& found, const LikelyTokens& expected, int64_t vocabulary,
                       double threshold) {
  constexpr double kRounding = 1e-5;
  const Tensor a_nv = by_token(found, vocabulary), b_nv = by_token(expected, vocabulary);
  const Tensor at_threshold_nv = (at::maximum(a_nv, b_nv) - threshold).abs() < kRounding * threshold;
  const Tensor off_nv = (a_nv - b_nv).abs().masked_fill(at_threshold_nv, 0);
  EXPECT_LE(off_nv.max().item<double>(), kRounding);
  EXPECT_GT(b_nv.max().item<double>(), 0) << "nothing is listed";
}

}  // namespace fwl
