#include "launch/tensorboard/record.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace fwl {
namespace {

TEST(TensorBoardRecord, CrcIsCastagnolis) {
  EXPECT_EQ(crc32c(""), 0U);
  EXPECT_EQ(crc32c("123456789"), 0xe3069283U);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aaU);  // RFC 3720, B.4
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43U);
}

TEST(TensorBoardRecord, ARecordIsLengthCrcContentCrc) {
  const std::string record = tfrecord("abc");
  ASSERT_EQ(record.size(), 8U + 4U + 3U + 4U);
  EXPECT_EQ(record.substr(0, 8), std::string("\3\0\0\0\0\0\0\0", 8));
  EXPECT_EQ(record.substr(12, 3), "abc");
}

TEST(TensorBoardRecord, AHistogramCountsEveryFiniteValueOnce) {
  std::vector<float> values = {std::numeric_limits<float>::infinity(), std::nanf("")};
  for (int i = 0; i <= 100; ++i) values.push_back(static_cast<float>(i));
  const Histogram h = histogram_of(values, 10);
  EXPECT_EQ(h.low, 0);
  EXPECT_EQ(h.high, 100);
  EXPECT_EQ(h.count, 101);
  EXPECT_EQ(h.sum, 5050);
  EXPECT_EQ(h.sum_of_squares, 338350);
  ASSERT_EQ(h.counts.size(), 10U);
  ASSERT_EQ(h.limits.size(), 10U);
  double all = 0;
  for (const double count : h.counts) all += count;
  EXPECT_EQ(all, 101);
  EXPECT_EQ(h.counts.front(), 11);  // 0 to 10
  EXPECT_EQ(h.limits.back(), 100);
}

TEST(TensorBoardRecord, AHistogramOfOneValueOrNoneIsWellFormed) {
  const Histogram one = histogram_of({0.25F}, 4);
  EXPECT_EQ(one.count, 1);
  double all = 0;
  for (size_t i = 0; i < one.counts.size(); ++i) {
    all += one.counts[i];
    if (i == 0) continue;
    EXPECT_GT(one.limits[i], one.limits[i - 1]);
  }
  EXPECT_EQ(all, 1);
  EXPECT_EQ(histogram_of({}, 4).count, 0);
}

}  // namespace
}  // namespace fwl
