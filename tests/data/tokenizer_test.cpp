#include "data/tokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "core/base/error.h"
#include "data/tokenizer_training.h"
#include "tests/data/tiny_dataset.h"
#include "tests/support/temporary_folder.h"

namespace fwl {
namespace {

const char* const kSource = R"(import os


class Reader:
    """Reads lines."""

    def __init__(self, path, encoding="utf-8"):
        self.path = path
        self.encoding = encoding

    def lines(self):
        with open(self.path, encoding=self.encoding) as file:
            for line in file:
                if not line.strip():
                    continue
                yield line.rstrip("\n")

    def count(self):
        return sum(1 for line in self.lines())
)";

// A model trained on the source above, over and over with other names.
const std::string& trained_model() {
  static const std::string model = [] {
    TemporaryFolder folder;
    std::string text;
    for (int i = 0; i < 40; ++i) text += kSource + some_text(20, static_cast<uint64_t>(i)) + "\n";
    write_text(folder / "a.py", text);
    return train_sentencepiece(find_documents({folder.path()}, {}), {400, 1'000'000});
  }();
  return model;
}

class TokenizerTest : public testing::TestWithParam<const char*> {
 protected:
  std::unique_ptr<Tokenizer> tokenizer_ =
      make_tokenizer(GetParam(), std::string(GetParam()) == "byte" ? "" : trained_model(), "test");

  void expect_round_trip(const std::string& text) {
    const std::vector<int32_t> ids = tokenizer_->encode(text);
    EXPECT_EQ(tokenizer_->decode(ids), text);
    EXPECT_EQ(std::count(ids.begin(), ids.end(), tokenizer_->document_start()), 0);
    for (const int32_t id : ids) ASSERT_TRUE(id >= 0 && id < tokenizer_->vocab_size());
  }
};

TEST_P(TokenizerTest, RoundTripKeepsEveryByte) {
  std::string all;
  for (int c = 0; c < 256; ++c) all.push_back(static_cast<char>(c));
  expect_round_trip(all);
  expect_round_trip("");
  std::mt19937 random(1);
  for (int i = 0; i < 300; ++i) {
    std::string text;
    for (size_t length = random() % 60; text.size() < length;)
      text.push_back(static_cast<char>(random() % 256));
    expect_round_trip(text);
  }
}

TEST_P(TokenizerTest, RoundTripKeepsMixturesOfTextAndOddPieces) {
  const std::vector<std::string> parts = {" ",
                                          "  ",
                                          "\n",
                                          "\t",
                                          "def",
                                          "self",
                                          "\xE2\x96\x81",
                                          "\xE2\x96\x85",
                                          "\xEF\xBF\xBD",
                                          std::string(1, '\0'),
                                          "\xFF",
                                          "\xC3",
                                          "\xE2\x96",
                                          "\xC3\xA9",
                                          "\xF0\x9F\x98\x80",
                                          "\xED\xA0\x80",
                                          "\xEF\xBB\xBF",
                                          "<s>",
                                          "\r\n",
                                          "\n    "};
  std::mt19937 random(2);
  for (int i = 0; i < 500; ++i) {
    std::string text;
    for (size_t count = random() % 12; count > 0; --count) text += parts[random() % parts.size()];
    expect_round_trip(text);
  }
}

TEST_P(TokenizerTest, RoundTripKeepsSourceText) {
  expect_round_trip(kSource);
  expect_round_trip("  \n\n\n   x\n \t y  \n");
  expect_round_trip(std::string(5000, ' ') + "x" + std::string(5000, '\n') + std::string(3, '\t'));
}

TEST_P(TokenizerTest, RoundTripKeepsVeryLongLines) {
  expect_round_trip(some_text(600'000, 4));
  std::string wide;
  for (int i = 0; i < 100'000; ++i) wide += "\xE2\x82\xAC";
  expect_round_trip(wide);
}

TEST_P(TokenizerTest, SpelledOutMarksAreText) {
  for (const char* text : {"<s>", "</s>", "<unk>", "<0x0A>", "<pad>", "a<s>b<0xFF><unk>"})
    expect_round_trip(text);
  EXPECT_NE(tokenizer_->encode("<0x0A>"), tokenizer_->encode("\n"));
}

TEST_P(TokenizerTest, RefusesIdsOutsideTheVocabulary) {
  EXPECT_THROW(tokenizer_->decode({static_cast<int32_t>(tokenizer_->vocab_size())}), DataError);
  EXPECT_THROW(tokenizer_->decode({-1}), DataError);
}

TEST_P(TokenizerTest, DocumentStartDecodesToNothing) {
  EXPECT_EQ(tokenizer_->decode({tokenizer_->document_start()}), "");
}

TEST_P(TokenizerTest, SurvivesSerialization) {
  const auto copy = make_tokenizer(tokenizer_->kind(), tokenizer_->serialized(), "copy");
  EXPECT_EQ(copy->encode(kSource), tokenizer_->encode(kSource));
  EXPECT_EQ(copy->hash(), tokenizer_->hash());
}

INSTANTIATE_TEST_SUITE_P(Kinds, TokenizerTest, testing::Values("byte", "sentencepiece"));

TEST(SentencePieceTokenizer, TakesANewlineAndItsIndentationAsOnePiece) {
  const auto tokenizer = make_tokenizer("sentencepiece", trained_model(), "test");
  EXPECT_EQ(tokenizer->encode("\n        ").size(), 1u);
  EXPECT_EQ(tokenizer->encode("\n").size(), 1u);
  EXPECT_LT(tokenizer->encode(kSource).size() * 2, std::string(kSource).size());
}

TEST(SentencePieceTokenizer, LongTextIsEncodedAsItsPartsAre) {
  const auto tokenizer = make_tokenizer("sentencepiece", trained_model(), "test");
  std::string text;
  std::vector<int32_t> ids;
  while (text.size() < 300'000) {
    text += kSource;
    for (const int32_t id : tokenizer->encode(kSource)) ids.push_back(id);
  }
  // The last newline of one copy meets no newline of the next, so the parts' ids are the whole's.
  EXPECT_EQ(tokenizer->encode(text), ids);
}

TEST(TokenizerFile, WhatIsNoModelIsDataErrorAndWhatIsNotThereIsUnavailable) {
  TemporaryFolder folder;
  EXPECT_THROW(open_tokenizer(folder / "missing.model"), UnavailableError);
  const std::string model = trained_model();
  for (const std::string& content : {std::string(), std::string("hello"), std::string(100, '\0'),
                                     std::string(1000, '\xFF'), model.substr(0, model.size() / 2)}) {
    write_text(folder / "bad.model", content);
    EXPECT_NE(message_of<DataError>([&] { open_tokenizer(folder / "bad.model"); }).find("bad.model"),
              std::string::npos);
  }
  EXPECT_THROW(make_tokenizer("words", "", "test"), DataError);
}

}  // namespace
}  // namespace fwl
