#include "launch/evaluation/counts.h"

#include <gtest/gtest.h>

#include <numeric>

#include "tests/data/tiny_dataset.h"
#include "tests/support/temporary_folder.h"

namespace fwl {
namespace {

TEST(CountWords, CountsRunsWithoutAsciiWhitespace) {
  EXPECT_EQ(count_words(""), 0);
  EXPECT_EQ(count_words(" \t\r\n\v\f"), 0);
  EXPECT_EQ(count_words("one"), 1);
  EXPECT_EQ(count_words("  one\ttwo\n\nthree,  four\v5\f"), 5);
  EXPECT_EQ(count_words("Gr\xC3\xBC\xC3\x9F Gott\x01! \xFF"), 3);
}

TEST(WordsOf, AreThoseOfTheDocumentsOriginalText) {
  const TemporaryFolder folder;
  write_dataset(folder / "set", {{"a", "to be or\nnot to be"}, {"b", ""}, {"c", "x"}},
                *make_tokenizer("byte", "", ""), 1000);
  const Split split(folder / "set");
  ReadingOptions options;
  options.context = 5;
  EXPECT_EQ(words_of(split, ReadingPlan(split, options).documents()), (std::vector<double>{6, 0, 1}));
}

TEST(TokenCounts, AreExactBelowTheLimitAndOfThatManyAboveIt) {
  const TemporaryFolder folder;
  write_dataset(folder / "set", {{"a", "aab"}, {"b", "ba"}}, *make_tokenizer("byte", "", ""), 1000);
  const Split split(folder / "set");
  for (const int64_t limit : {0, 7, 100}) {
    const std::vector<int64_t> counts = token_counts(split, limit);
    ASSERT_EQ(static_cast<int64_t>(counts.size()), split.vocab_size());
    EXPECT_EQ(counts['a'], 3);
    EXPECT_EQ(counts['b'], 2);
    EXPECT_EQ(counts[static_cast<size_t>(split.document_start())], 2);
  }
  const std::vector<int64_t> some = token_counts(split, 4);
  EXPECT_EQ(std::accumulate(some.begin(), some.end(), int64_t{0}), 4);
}

}  // namespace
}  // namespace fwl
