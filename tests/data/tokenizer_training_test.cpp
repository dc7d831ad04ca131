#include "data/tokenizer_training.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <string>

#include "core/base/error.h"
#include "core/base/hash.h"
#include "data/tokenizer.h"
#include "tests/data/tiny_dataset.h"
#include "tests/support/temporary_folder.h"

namespace fwl {
namespace {

std::string words(int count, uint64_t seed) {
  static const char* const kWords[] = {"value",  "return", "index", "matrix",
                                       "lookup", "table",  "print", "other"};
  std::string text;
  for (int i = 0; i < count; ++i) {
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    text += kWords[(seed >> 33) % 8];
    text += (seed >> 40) % 5 == 0 ? "\n    " : " ";
  }
  return text;
}

class TokenizerTrainingTest : public testing::Test {
 protected:
  void SetUp() override {
    for (int i = 0; i < 6; ++i)
      write_text(folder_ / ("f" + std::to_string(i)), words(800, static_cast<uint64_t>(i)));
  }
  std::string train(const TokenizerTraining& options) {
    return train_sentencepiece(find_documents({folder_.path()}, {}), options);
  }
  TemporaryFolder folder_;
};

TEST_F(TokenizerTrainingTest, SameInputGivesTheSameBytes) {
  EXPECT_EQ(train({310, 1'000'000}), train({310, 1'000'000}));
}

TEST_F(TokenizerTrainingTest, SampleIsDeterministicAndSmaller) {
  EXPECT_EQ(train({310, 12'000}), train({310, 12'000}));
  EXPECT_NE(train({310, 12'000}), train({310, 1'000'000}));
}

TEST_F(TokenizerTrainingTest, HasTheSizeThatWasAskedFor) {
  EXPECT_EQ(make_tokenizer("sentencepiece", train({317, 1'000'000}), "test")->vocab_size(), 317);
}

TEST_F(TokenizerTrainingTest, TooLargeAVocabularyNamesWhatFits) {
  const std::string message = message_of<ConfigError>([&] { train({5000, 1'000'000}); });
  const size_t at = message.find("at most ");
  ASSERT_NE(at, std::string::npos) << message;
  const int64_t fits = std::stoll(message.substr(at + 8));
  EXPECT_EQ(make_tokenizer("sentencepiece", train({fits, 1'000'000}), "test")->vocab_size(), fits);
  EXPECT_THROW(train({fits + 1, 1'000'000}), ConfigError);
}

TEST_F(TokenizerTrainingTest, TooSmallAVocabularyNamesWhatFits) {
  std::string text;
  for (int i = 0; i < 600; ++i)
    text += {static_cast<char>(0xC4 + i % 4), static_cast<char>(0x80 + i % 64), 'a'};
  for (int i = 0; i < 20; ++i) write_text(folder_ / ("wide" + std::to_string(i)), text);
  const std::string message = message_of<ConfigError>([&] { train({300, 1'000'000}); });
  const size_t at = message.find("at least ");
  ASSERT_NE(at, std::string::npos) << message;
  EXPECT_EQ(
      make_tokenizer("sentencepiece", train({std::stoll(message.substr(at + 9)), 1'000'000}), "test")->kind(),
      std::string("sentencepiece"));
}

TEST_F(TokenizerTrainingTest, RefusesSizesThatCannotBe) {
  EXPECT_THROW(train({0, 1'000'000}), ConfigError);
  EXPECT_THROW(train({256, 1'000'000}), ConfigError);
}

// Blanks below the coverage, and none at all: the piece for a blank is there nevertheless.
TEST(TokenizerTraining, TextWithoutBlanksGivesALosslessTokenizer) {
  for (const int blanks : {0, 1, 5, 50}) {
    TemporaryFolder folder;
    std::string text;
    for (int i = 0; i < 100'000; ++i) text += "ACGT"[some_text(1, static_cast<uint64_t>(i))[0] % 4];
    for (int i = 0; i < blanks; ++i) text.insert(text.size() / 51 * static_cast<size_t>(i + 1), " ");
    write_text(folder / "dna", text);
    const auto tokenizer = make_tokenizer(
        "sentencepiece", train_sentencepiece(find_documents({folder.path()}, {}), {330, 1'000'000}), "");
    EXPECT_LT(tokenizer->encode(text).size(), 60'000u) << blanks;
    EXPECT_EQ(tokenizer->encode(" ").size(), 1u) << blanks;
    for (const std::string& any : {text, std::string(" a  b\n\n    c\td \xE5\xA4\xA9")})
      EXPECT_EQ(tokenizer->decode(tokenizer->encode(any)), any);
  }
}

// The size of a compressed file says little: a sample of its text is a sample nevertheless.
TEST(TokenizerTraining, ASampleOfCompressedTextIsSmallerThanTheText) {
  TemporaryFolder folder;
  std::string text;
  for (uint64_t i = 0; i < 80'000; ++i) {
    const std::string number = std::to_string(mix_bits(i) % (1 + i / 100));
    text += cat(number, ' ', number, ' ', number, i % 9 == 0 ? "\n" : " ");
  }
  gzFile file = gzopen((folder / "numbers.gz").c_str(), "wb9");
  gzwrite(file, text.data(), static_cast<unsigned>(text.size()));
  ASSERT_EQ(gzclose(file), Z_OK);
  const auto documents = find_documents({folder.path()}, {});
  const int64_t packed = documents[0].bytes;
  ASSERT_LT(packed * 5 / 2, static_cast<int64_t>(text.size()));
  const auto train = [&](int64_t bytes) { return train_sentencepiece(documents, {340, bytes}); };
  const std::string sampled = train(packed);
  EXPECT_EQ(sampled, train(packed));
  EXPECT_NE(sampled, train(int64_t{1} << 40));
}

TEST(TokenizerTraining, EmptyTextIsDataError) {
  TemporaryFolder folder;
  write_text(folder / "empty", "");
  EXPECT_THROW(train_sentencepiece(find_documents({folder.path()}, {}), {300, 1000}), DataError);
}

TEST(TokenizerTraining, TextOfBytesThatAreNoCharactersIsDataError) {
  TemporaryFolder folder;
  write_text(folder / "noise", std::string(1000, '\xFF'));
  EXPECT_THROW(train_sentencepiece(find_documents({folder.path()}, {}), {300, 1000}), DataError);
}

}  // namespace
}  // namespace fwl
