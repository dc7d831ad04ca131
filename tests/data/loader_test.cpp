#include "data/loader.h"

#include <gtest/gtest.h>

#include <set>

#include "core/base/error.h"
#include "tests/data/tiny_dataset.h"
#include "tests/support/temporary_folder.h"

namespace fwl {
namespace {

class LoaderTest : public testing::Test {
 protected:
  void SetUp() override {
    for (int i = 0; i < 7; ++i)
      texts["d" + std::to_string(i)] = some_text(100 + 50 * i, static_cast<uint64_t>(i));
    write_dataset(folder_ / "ds", texts, *tokenizer_, 300);
  }
  // The tokens of a window, read directly.
  static std::vector<int64_t> slice(const Split& split, int64_t first, int64_t count) {
    std::vector<int64_t> tokens(static_cast<size_t>(count));
    split.read_tokens(first, count, tokens.data());
    return tokens;
  }
  TemporaryFolder folder_;
  Texts texts;
  std::unique_ptr<Tokenizer> tokenizer_ = make_byte_tokenizer();
};

TEST_F(LoaderTest, RowsAreDirectSlicesOfTheStream) {
  const Split split(folder_ / "ds");
  const Loader loader(split, 32, 1);
  const int64_t samples = 3 * loader.windows_per_epoch();
  const Batch batch = loader.read(0, samples);
  ASSERT_EQ(batch.tokens.size(), static_cast<size_t>(samples * 33));
  for (int64_t s = 0; s < samples; ++s) {
    const auto expected = slice(split, loader.first_token_of(s), 33);
    EXPECT_EQ(std::vector<int64_t>(batch.tokens.begin() + s * 33, batch.tokens.begin() + (s + 1) * 33),
              expected);
    for (int64_t t = 0; t < 32; ++t) {
      EXPECT_EQ(batch.document_start[static_cast<size_t>(s * 32 + t)] == 1,
                expected[static_cast<size_t>(t)] == 256);
    }
  }
}

TEST_F(LoaderTest, AnEpochCoversTheStreamOnce) {
  const Split split(folder_ / "ds");
  const Loader loader(split, 32, 1);
  const int64_t windows = loader.windows_per_epoch();
  for (int64_t epoch = 0; epoch < 3; ++epoch) {
    std::set<int64_t> firsts;
    for (int64_t i = 0; i < windows; ++i) firsts.insert(loader.first_token_of(epoch * windows + i));
    ASSERT_EQ(static_cast<int64_t>(firsts.size()), windows);
    EXPECT_EQ(*firsts.rbegin() - *firsts.begin(), (windows - 1) * 32);
    EXPECT_LT(*firsts.begin(), 32);
    EXPECT_LE(*firsts.rbegin() + 33, split.num_tokens());
  }
  EXPECT_GT(windows * 32, split.num_tokens() - 2 * 32 - 1);
}

TEST_F(LoaderTest, WindowsDifferBetweenEpochs) {
  const Split split(folder_ / "ds");
  const Loader loader(split, 32, 1);
  std::set<int64_t> shifts;
  for (int64_t epoch = 0; epoch < 20; ++epoch)
    shifts.insert(loader.first_token_of(epoch * loader.windows_per_epoch()) % 32);
  EXPECT_GT(shifts.size(), 5u);
}

TEST_F(LoaderTest, ASampleDoesNotDependOnHowItIsRead) {
  const Split split(folder_ / "ds"), other_split(folder_ / "ds");
  const Loader loader(split, 16, 9), other(other_split, 16, 9);
  const Batch all = loader.read(0, 50);
  for (int64_t s = 49; s >= 0; --s) {
    const Batch one = other.read(s, 1);
    EXPECT_EQ(one.tokens,
              std::vector<int64_t>(all.tokens.begin() + s * 17, all.tokens.begin() + (s + 1) * 17));
  }
}

TEST_F(LoaderTest, SeedsGiveDifferentOrders) {
  const Split split(folder_ / "ds");
  EXPECT_NE(Loader(split, 16, 1).read(0, 20).tokens, Loader(split, 16, 2).read(0, 20).tokens);
  EXPECT_NE(Loader(split, 16, 1).sequence_hash(), Loader(split, 16, 2).sequence_hash());
  EXPECT_EQ(Loader(split, 16, 1).sequence_hash(), Loader(split, 16, 1).sequence_hash());
}

TEST_F(LoaderTest, TheLongestContextThatFitsIsNamedAndWorks) {
  const Split split(folder_ / "ds");
  const std::string message = message_of<DataError>([&] { Loader(split, 100'000, 1); });
  const size_t at = message.find("at most ");
  ASSERT_NE(at, std::string::npos) << message;
  const int64_t longest = std::stoll(message.substr(at + 8));
  EXPECT_THROW(Loader(split, longest + 1, 1), DataError);
  const Loader loader(split, longest, 1);
  EXPECT_EQ(loader.windows_per_epoch(), 1);
  EXPECT_EQ(loader.read(3, 1).tokens, slice(split, 0, longest + 1));
}

TEST_F(LoaderTest, EveryContextStaysInsideTheStream) {
  const Split split(folder_ / "ds");
  for (int64_t context = 1; context < split.num_tokens(); context += 13) {
    const Loader loader(split, context, 5);
    loader.read(0, std::min<int64_t>(3 * loader.windows_per_epoch(), 40));  // read_tokens throws outside
  }
}

}  // namespace
}  // namespace fwl
