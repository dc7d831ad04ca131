#include "data/sample_order.h"

#include <gtest/gtest.h>

#include <vector>

#include "core/base/error.h"

namespace fwl {
namespace {

std::vector<int64_t> order_of(uint64_t seed, int64_t epoch, int64_t size) {
  std::vector<int64_t> order;
  for (int64_t i = 0; i < size; ++i) order.push_back(window_of(seed, epoch, i, size));
  return order;
}

TEST(SampleOrder, IsAPermutationForEverySize) {
  for (const int64_t size : {1, 2, 3, 4, 5, 7, 16, 17, 63, 64, 65, 255, 256, 257, 1000, 4096, 4097, 20000}) {
    std::vector<bool> seen(static_cast<size_t>(size), false);
    for (const int64_t window : order_of(3, 1, size)) {
      ASSERT_GE(window, 0);
      ASSERT_LT(window, size);
      ASSERT_FALSE(seen[static_cast<size_t>(window)])
          << "window " << window << " of " << size << " comes twice";
      seen[static_cast<size_t>(window)] = true;
    }
  }
}

TEST(SampleOrder, DiffersBetweenEpochsAndSeeds) {
  const auto order = order_of(1, 0, 200);
  EXPECT_EQ(order, order_of(1, 0, 200));
  EXPECT_NE(order, order_of(1, 1, 200));
  EXPECT_NE(order, order_of(2, 0, 200));
}

TEST(SampleOrder, LooksShuffled) {
  const auto order = order_of(5, 0, 10000);
  int64_t fixed = 0, neighbours = 0;
  for (int64_t i = 0; i + 1 < 10000; ++i) {
    fixed += order[static_cast<size_t>(i)] == i;
    neighbours += order[static_cast<size_t>(i + 1)] == order[static_cast<size_t>(i)] + 1;
  }
  EXPECT_LT(fixed, 10);       // 1 is expected
  EXPECT_LT(neighbours, 10);  // 1 is expected
}

TEST(SampleOrder, ReachesVeryLargeSizes) {
  const int64_t size = int64_t{1} << 50;
  for (int64_t i = 0; i < 100; ++i) {
    const int64_t window = window_of(9, 4, size - 1 - i, size);
    EXPECT_GE(window, 0);
    EXPECT_LT(window, size);
  }
}

TEST(SampleOrder, RefusesAnIndexOutsideTheRange) {
  EXPECT_THROW(window_of(0, 0, 5, 5), InternalError);
  EXPECT_THROW(window_of(0, 0, -1, 5), InternalError);
}

TEST(SampleOrder, ShiftsStayBelowTheirBoundAndDiffer) {
  std::vector<bool> seen(16, false);
  for (int64_t epoch = 0; epoch < 200; ++epoch) {
    const int64_t shift = shift_of(7, epoch, 16);
    ASSERT_GE(shift, 0);
    ASSERT_LT(shift, 16);
    seen[static_cast<size_t>(shift)] = true;
  }
  EXPECT_EQ(seen, std::vector<bool>(16, true));
}

}  // namespace
}  // namespace fwl
