#include "parallel/texts.h"

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "parallel/session.h"

namespace fwl {
namespace {

std::string refusal(Communicator& group, const Facts& facts) {
  try {
    require_same_facts(group, "the data", facts, "Give the same.");
  } catch (const DataError& error) {
    return error.what();
  }
  return "";
}

TEST(Texts, OfAllRanksAndOfTheFirst) {
  const auto group = make_world_communicator(60);
  const std::string own(static_cast<size_t>(group->rank()) * 3, 'x');
  const std::vector<std::string> all = gather_texts(*group, own);
  ASSERT_EQ(static_cast<int>(all.size()), group->size());
  for (size_t r = 0; r < all.size(); ++r) EXPECT_EQ(all[r], std::string(r * 3, 'x'));
  EXPECT_EQ(broadcast_text(*group, cat("of ", group->rank())), "of 0");
  EXPECT_EQ(broadcast_text(*group, group->rank() == 0 ? "" : "else"), "");
}

TEST(SameFacts, DifferencesAreNamedWithRanksAndValues) {
  const auto group = make_world_communicator(60);
  const int last = group->size() - 1;
  const bool other = group->rank() == last && last > 0;
  EXPECT_EQ(refusal(*group, {{"tokens", "100"}, {"documents", "7"}}), "");
  const std::string text = refusal(*group, {{"tokens", other ? "90" : "100"}, {"documents", "7"}});
  if (last == 0) return;
  EXPECT_NE(text.find(cat("tokens 90 (rank ", last, ")")), std::string::npos) << text;
  EXPECT_NE(text.find("100"), std::string::npos) << text;
  EXPECT_EQ(text.find("documents"), std::string::npos) << text;
  EXPECT_NE(text.find("Give the same."), std::string::npos) << text;
}

TEST(OnAllRanks, AFailureOfOneIsAFailureOfAllWithItsTextAndClass) {
  const auto group = make_world_communicator(60);
  const int last = group->size() - 1;
  on_all_ranks(*group, [] {});
  try {
    on_all_ranks(*group, [&] { require<DataError>(group->rank() != last, "its file is damaged"); });
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kData);
    EXPECT_NE(std::string(error.what()).find("its file is damaged"), std::string::npos) << error.what();
    const std::string named = cat("rank ", last, ": ");
    EXPECT_EQ(std::string(error.what()).rfind(named, 0) == 0, group->rank() != last) << error.what();
  }
  group->barrier();
}

TEST(OnAllRanks, AnEarlyEndOfOneIsAnEarlyEndOfAll) {
  const auto group = make_world_communicator(60);
  EXPECT_THROW(on_all_ranks(*group, [&] { require<Interrupted>(group->rank() != 0, "in use"); }),
               Interrupted);
  group->barrier();
}

TEST(EqualityVote, SeesOneOtherNumberAmongMany) {
  for (const int ranks : {1, 2, 3, 8192}) {
    for (const uint64_t number : {uint64_t{0}, uint64_t{0xfffff}, uint64_t{0x123456789abcdef0}}) {
      double sum = 0, squares = 0;
      for (int r = 0; r < ranks; ++r)
        sum += EqualityVote(number).value, squares += EqualityVote(number).square;
      EXPECT_TRUE(EqualityVote::all_equal(sum, squares, ranks));
      if (ranks == 1) continue;
      for (const uint64_t other : {number + 1, number ^ 0x80000}) {
        const EqualityVote odd(other), usual(number);
        EXPECT_FALSE(EqualityVote::all_equal(sum - usual.value + odd.value,
                                             squares - usual.square + odd.square, ranks))
            << ranks << ' ' << number << ' ' << other;
      }
    }
  }
}

}  // namespace
}  // namespace fwl
