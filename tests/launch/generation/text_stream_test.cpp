#include "launch/generation/text_stream.h"

#include <gtest/gtest.h>

#include "core/base/error.h"

namespace fwl {
namespace {

// Feeds `text` in pieces of `size` bytes; returns what was shown.
std::string shown(TextStream& stream, const std::string& text, size_t size) {
  std::string all;
  for (size_t i = 0; i < text.size() && !stream.stopped(); i += size) all += stream.add(text.substr(i, size));
  return all + stream.finish();
}

TEST(TextStream, StopsBeforeAStopStringAcrossTokenBorders) {
  for (const size_t size : {1u, 2u, 3u, 5u, 100u}) {
    TextStream stream({"\n\n", "END"});
    EXPECT_EQ(shown(stream, "one\ntwo EN three\n\nfour END", size), "one\ntwo EN three") << size;
    EXPECT_TRUE(stream.stopped());
    EXPECT_EQ(stream.text(), "one\ntwo EN three");
  }
}

TEST(TextStream, OverlappingBeginningsOfAStopStringAreFound) {
  for (const size_t size : {1u, 2u, 4u}) {
    TextStream stream({"aab"});
    EXPECT_EQ(shown(stream, "xaaab", size), "xa");
  }
}

TEST(TextStream, NothingIsShownThatMayBeginAStopString) {
  TextStream stream({"stop"});
  EXPECT_EQ(stream.add("a st"), "a ");
  EXPECT_EQ(stream.add("o"), "");
  EXPECT_EQ(stream.add("ne"), "stone");
  EXPECT_EQ(stream.add(" sto"), " ");
  EXPECT_EQ(stream.finish(), "sto");
}

TEST(TextStream, OnlyWholeCharactersAreShown) {
  TextStream stream({});
  const std::string text = "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80";
  std::string all;
  for (const char c : text) {
    const std::string piece = stream.add(std::string(1, c));
    EXPECT_EQ(as_utf8(piece), piece);
    EXPECT_EQ(piece.find("\xEF\xBF\xBD"), std::string::npos);
    all += piece;
  }
  EXPECT_EQ(all, text);
}

TEST(TextStream, BytesThatAreNoUtf8AreReplacedWhenShownAndKeptInTheText) {
  TextStream stream({});
  EXPECT_EQ(shown(stream, "a\xFF\xC3", 1), "a\xEF\xBF\xBD\xEF\xBF\xBD");
  EXPECT_EQ(stream.text(), "a\xFF\xC3");
}

TEST(TextStream, AnEmptyStopStringIsRefused) {
  EXPECT_THROW(TextStream({"a", ""}), ConfigError);
}

}  // namespace
}  // namespace fwl
