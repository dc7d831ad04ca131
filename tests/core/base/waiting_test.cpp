#include "core/base/waiting.h"

#include <gtest/gtest.h>

#include "core/base/error.h"

namespace fwl {
namespace {

WaitFacts facts(int threads, int ranks, int cpus, int cpus_of_ranks, double quota, double others_busy) {
  return {threads, ranks, cpus, cpus_of_ranks, quota, others_busy};
}

TEST(ChooseWaiting, SleepsWhereCoresAreShared) {
  constexpr double kNone = 1e9;
  struct Case {
    const char* what;
    WaitFacts facts;
    Waiting how;
  };
  const std::vector<Case> cases = {
      {"an idle machine", facts(2, 1, 2, 2, kNone, 0), Waiting::kBrief},
      {"somebody's editor", facts(16, 1, 16, 16, kNone, 0.4), Waiting::kBrief},
      {"one other program", facts(2, 1, 2, 2, kNone, 1), Waiting::kPassive},
      {"others where there is room", facts(2, 1, 16, 16, kNone, 10), Waiting::kBrief},
      {"two ranks on two cores", facts(1, 2, 2, 2, kNone, 0), Waiting::kBrief},
      {"two bound ranks", facts(1, 2, 1, 2, kNone, 0), Waiting::kBrief},
      {"four ranks on two cores", facts(1, 4, 2, 2, kNone, 0), Waiting::kPassive},
      {"more threads than cores", facts(4, 1, 2, 2, kNone, 0), Waiting::kPassive},
      {"threads beyond a bound rank's core", facts(2, 2, 1, 8, kNone, 0), Waiting::kPassive},
      {"a quota", facts(1, 1, 2, 2, 0.5, 0), Waiting::kPassive},
      {"a quota of all", facts(2, 1, 2, 2, 2, 0), Waiting::kBrief},
  };
  for (const Case& c : cases) {
    for (const char* word : {"", "auto", "AUTO"})
      EXPECT_EQ(choose_waiting(word, c.facts).how, c.how) << c.what;
    EXPECT_EQ(choose_waiting("Passive", c.facts).how, Waiting::kPassive) << c.what;
    EXPECT_EQ(choose_waiting("active", c.facts).how, Waiting::kActive) << c.what;
    EXPECT_FALSE(choose_waiting("", c.facts).why.empty()) << c.what;
  }
  EXPECT_THROW(choose_waiting("sleepy", cases.front().facts), ConfigError);
}

}  // namespace
}  // namespace fwl
