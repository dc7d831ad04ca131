#include "parallel/watchdog.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>

#include "parallel/interfaces.h"

namespace fwl {
namespace {

TEST(EndTree, ReachesEveryRankOnceAndAsksLittleOfEach) {
  for (const int size : {1, 2, 32, 33, 34, 1000, 1057, 40000}) {
    for (const int origin : {0, 1 % size, size / 2, size - 1}) {
      std::vector<int> reached(static_cast<size_t>(size), 0);
      reached[static_cast<size_t>(origin)] = 1;
      std::deque<int> next = {origin};
      while (!next.empty()) {
        const std::vector<int> children = tree_children(next.front(), origin, size);
        next.pop_front();
        EXPECT_LE(children.size(), 32u);
        for (const int child : children) {
          ++reached[static_cast<size_t>(child)];
          next.push_back(child);
        }
      }
      EXPECT_EQ(std::count(reached.begin(), reached.end(), 1), size) << size << " ranks, from " << origin;
    }
  }
}

TEST(SideChannel, LeavesBridgesOfContainersOut) {
  for (const char* name : {"docker0", "virbr0", "br-1a2b", "cni0", "lxcbr0"})
    EXPECT_TRUE(is_container_bridge(name)) << name;
  for (const char* name : {"eth0", "ib0", "bond0", "enp1s0", "br0"})
    EXPECT_FALSE(is_container_bridge(name)) << name;
}

}  // namespace
}  // namespace fwl
