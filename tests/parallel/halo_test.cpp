// What ranks send for windows of attention: the lists against the definition, position by position, and the
// counts against the lists.
#include "parallel/halo.h"

#include <gtest/gtest.h>

#include <map>

#include "core/base/error.h"

namespace fwl {
namespace {

// Positions that `to` reads from `from`: those of the reach before its first one, in this sequence (offset 0)
// or, for the memory of the next one, with its own positions that much further on.
std::map<std::pair<int, int>, int64_t> read_rows(int ranks, int64_t length, int64_t reach, int64_t offset) {
  std::map<std::pair<int, int>, int64_t> rows;
  for (int to = 0; to < ranks; ++to) {
    const int64_t first = offset + to * length;
    for (int64_t position = std::max<int64_t>(0, first - reach); position < std::min(first, ranks * length);
         ++position)
      ++rows[{static_cast<int>(position / length), to}];
  }
  return rows;
}

std::map<std::pair<int, int>, int64_t> listed(const std::vector<HaloRows>& rows) {
  std::map<std::pair<int, int>, int64_t> counts;
  for (const HaloRows& r : rows) {
    EXPECT_GT(r.count, 0);
    counts[{r.from, r.to}] += r.count;
  }
  return counts;
}

TEST(Halo, CountsAndListsAreThoseOfTheDefinition) {
  for (int ranks = 1; ranks <= 6; ++ranks) {
    for (const int64_t length : {1, 2, 5}) {
      for (const int64_t reach : {0, 1, 3, 5, 7, 12, 40}) {
        SCOPED_TRACE(cat(ranks, " ranks of ", length, ", reach ", reach));
        const auto window = read_rows(ranks, length, reach, 0),
                   memory = read_rows(ranks, length, reach, ranks * length);
        EXPECT_EQ(listed(halo_rows(ranks, length, reach)), window);
        EXPECT_EQ(listed(memory_rows(ranks, length, reach)), memory);
        for (int rank = 0; rank < ranks; ++rank) {
          int64_t sent = 0, kept = 0, received = 0;
          for (const auto& [ends, count] : window) {
            sent += ends.first == rank ? count : 0;
            received += ends.second == rank ? count : 0;
          }
          for (const auto& [ends, count] : memory)
            kept += ends.first == rank && ends.second != rank ? count : 0;
          EXPECT_EQ(halo_rows_sent(rank, ranks, length, reach, StreamMemory::kNone), sent);
          EXPECT_EQ(halo_rows_sent(rank, ranks, length, reach, StreamMemory::kKept), sent + kept);
          EXPECT_EQ(halo_rows_received(rank, length, reach), received);
        }
      }
    }
  }
}

}  // namespace
}  // namespace fwl
