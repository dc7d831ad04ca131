#include "launch/interval_times.h"

#include <gtest/gtest.h>

namespace fwl {
namespace {

TEST(IntervalTimes, TheRankThatWaitsLeastIsTheOneTheOthersWaitFor) {
  const auto lags = worst_lags({2.0, 0.5, 1.5});
  ASSERT_EQ(lags.size(), 3U);
  EXPECT_EQ(lags[0], (std::pair<int, double>{1, 1.5}));
  EXPECT_EQ(lags[1], (std::pair<int, double>{2, 0.5}));
  EXPECT_EQ(lags[2], (std::pair<int, double>{0, 0.0}));
}

TEST(IntervalTimes, OneRankLagsBehindNobodyAndOfManyTheWorstAreKept) {
  EXPECT_TRUE(worst_lags({3.0}).empty());
  EXPECT_EQ(worst_lags(std::vector<double>(100, 1.0)).size(), 8U);
}

}  // namespace
}  // namespace fwl
