#include "launch/evaluation/tuning.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>

namespace fwl {
namespace {

TEST(SearchScale, FindsTheMinimumWithinAFactorOfTheSquareRootOfThree) {
  for (const double best : {1e-6, 2e-3, 1.0, 40.0}) {
    const auto value_at = [&](double x) { return std::pow(std::log(x / best), 2); };
    for (const double start : {1e-4, 1e-2, 3.0}) {
      const Minimum found = search_scale(start, value_at);
      EXPECT_LT(std::abs(std::log(found.at / best)), std::log(3.0) / 4 + 1e-9) << best << " from " << start;
      EXPECT_EQ(found.value, value_at(found.at));
    }
  }
}

TEST(SearchScale, AsksForEveryPlaceOnce) {
  std::multiset<double> asked;
  search_scale(1, [&](double x) {
    asked.insert(x);
    return std::pow(std::log(x / 7), 2);
  });
  for (const double x : asked) EXPECT_EQ(asked.count(x), 1u) << x;
}

TEST(SearchScale, ComesDownFromWhereItDiverges) {
  const auto value_at = [](double x) {
    return x > 1e-3 ? std::numeric_limits<double>::quiet_NaN() : std::pow(std::log(x / 2e-4), 2);
  };
  const Minimum found = search_scale(10, value_at);
  EXPECT_LT(std::abs(std::log(found.at / 2e-4)), std::log(3.0) / 4 + 1e-9);
}

TEST(SearchScale, RoughlyTakesFewValuesAndFactorsOfThree) {
  for (const double best : {1e-9, 2e-3, 1.0, 1e9}) {
    int values = 0;
    const Minimum found = search_scale_roughly(1e-2, [&](double x) {
      ++values;
      return std::pow(std::log(x / best), 2);
    });
    EXPECT_LE(values, kRoughTrials) << best;
    if (best == 2e-3) {
      EXPECT_LT(std::abs(std::log(found.at / best)), std::log(3.0) / 2 + 1e-9);
    }
  }
  EXPECT_TRUE(std::isinf(search_scale_roughly(1, [](double) { return std::nan(""); }).value));
}

TEST(SearchScale, EndsWhereEverythingDiverges) {
  EXPECT_TRUE(
      std::isinf(search_scale(1, [](double) { return std::numeric_limits<double>::infinity(); }).value));
}

}  // namespace
}  // namespace fwl
