// A text that grows token by token: where it stops, and how much of it may be shown already.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace fwl {

// `bytes` with every byte that is no part of a valid UTF-8 character replaced by U+FFFD.
std::string as_utf8(std::string_view bytes);

class TextStream {
 public:
  // The text ends before the first stop string, wherever the borders between tokens are. No stop is empty.
  explicit TextStream(std::vector<std::string> stops);
  // Adds a token's bytes and returns what may be shown now: whole characters, and nothing that may turn out
  // to be the beginning of a stop string.
  std::string add(std::string_view bytes);
  // The end: what was held back.
  std::string finish();
  bool stopped() const { return stopped_; }
  const std::string& text() const { return text_; }

 private:
  std::string show_until(size_t end);
  std::vector<std::string> stops_;
  std::string text_;
  size_t shown_ = 0, searched_ = 0;
  bool stopped_ = false;
};

}  // namespace fwl
