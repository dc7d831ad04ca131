#include "launch/data_hash.h"

#include <gtest/gtest.h>

namespace fwl {
namespace {

constexpr int64_t kLength = 6;

int64_t token_of(int64_t sample, int64_t position) {
  return (31 * sample + 7 * position * position) % 97;
}

// Positions [first, first + length) of samples [sample, sample + rows).
Batch batch_of(int64_t sample, int64_t rows, int64_t first = 0, int64_t length = kLength) {
  Batch batch;
  batch.rows = rows;
  batch.length = length;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t t = 0; t <= length; ++t) batch.tokens.push_back(token_of(sample + r, first + t));
  return batch;
}

uint64_t serial_hash() {
  DataHash hash;
  for (const int64_t step : {0, 1, 2}) {
    hash.add(batch_of(4 * step, 4), 4 * step);
    hash.end_step();
  }
  return hash.share();
}

TEST(DataHash, AnyDataAndSequenceLayoutGivesTheSameHash) {
  DataHash ranks[4];  // 2 data x 2 sequence
  for (const int64_t step : {0, 1, 2}) {
    for (int64_t d = 0; d < 2; ++d)
      for (int64_t s = 0; s < 2; ++s) {
        const int64_t sample = 4 * step + 2 * d;
        ranks[2 * d + s].add(batch_of(sample + 1, 1, 3 * s, 3), sample + 1, 3 * s);
        ranks[2 * d + s].add(batch_of(sample, 1, 3 * s, 3), sample, 3 * s);
        ranks[2 * d + s].end_step();
      }
  }
  uint64_t sum = 0;
  for (const DataHash& rank : ranks) sum += rank.share();
  EXPECT_EQ(sum, serial_hash());
}

TEST(DataHash, GoesOnFromACheckpointInAnotherLayout) {
  DataHash first;
  first.add(batch_of(0, 4), 0);
  first.end_step();
  DataHash ranks[2];
  ranks[0].restart(first.share());
  ranks[1].restart(0);
  for (const int64_t step : {1, 2}) {
    for (int64_t r = 0; r < 2; ++r) {
      ranks[r].add(batch_of(4 * step + 2 * r, 2), 4 * step + 2 * r);
      ranks[r].end_step();
    }
  }
  EXPECT_EQ(ranks[0].share() + ranks[1].share(), serial_hash());
}

TEST(DataHash, OrderSampleAndTokenMatter) {
  DataHash swapped;
  for (const int64_t step : {1, 0, 2}) {
    swapped.add(batch_of(4 * step, 4), 4 * step);
    swapped.end_step();
  }
  EXPECT_NE(swapped.share(), serial_hash());
  DataHash other;
  for (const int64_t step : {0, 1, 2}) {
    Batch batch = batch_of(4 * step, 4);
    if (step == 1) batch.tokens[3] += 1;
    other.add(batch, 4 * step);
    other.end_step();
  }
  EXPECT_NE(other.share(), serial_hash());
}

}  // namespace
}  // namespace fwl
