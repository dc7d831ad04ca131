#include "launch/generation/text_stream.h"

#include <algorithm>

#include "core/base/error.h"
#include "data/utf8.h"

namespace fwl {
namespace {

// How many bytes the character at the front should have; 1 for what can begin none.
size_t announced_length(unsigned char lead) {
  return lead >= 0xF0 && lead <= 0xF4  ? 4
         : lead >= 0xE0 && lead < 0xF0 ? 3
         : lead >= 0xC2 && lead < 0xE0 ? 2
                                       : 1;
}

// End of the last character in `text` that is whole, or that no further byte can complete.
size_t complete_end(std::string_view text) {
  for (size_t back = 1; back <= std::min<size_t>(3, text.size()); ++back) {
    const auto byte = static_cast<unsigned char>(text[text.size() - back]);
    if ((byte & 0xC0u) != 0x80u) return announced_length(byte) > back ? text.size() - back : text.size();
  }
  return text.size();
}

// Length of the longest end of `text` that begins `stop` without being all of it.
size_t open_match(std::string_view text, std::string_view stop) {
  for (size_t length = std::min(text.size(), stop.size() - 1); length > 0; --length) {
    if (text.substr(text.size() - length) == stop.substr(0, length)) return length;
  }
  return 0;
}

}  // namespace

std::string as_utf8(std::string_view bytes) {
  std::string valid;
  while (!bytes.empty()) {
    const size_t length = utf8_length(bytes);
    length == 0 ? valid += "\xEF\xBF\xBD" : valid += bytes.substr(0, length);
    bytes.remove_prefix(std::max<size_t>(1, length));
  }
  return valid;
}

TextStream::TextStream(std::vector<std::string> stops) : stops_(std::move(stops)) {
  for (const std::string& stop : stops_)
    require<ConfigError>(!stop.empty(),
                         "a stop string is empty (it would stop every text at once). Leave it out.");
}

std::string TextStream::show_until(size_t end) {
  if (end <= shown_) return {};
  const std::string piece = text_.substr(shown_, end - shown_);
  shown_ = end;
  return as_utf8(piece);
}

std::string TextStream::add(std::string_view bytes) {
  text_ += bytes;
  size_t found = std::string::npos, open = 0, longest = 0;
  for (const std::string& stop : stops_) {
    found = std::min(found, text_.find(stop, searched_));
    open = std::max(open, open_match(text_, stop));
    longest = std::max(longest, stop.size());
  }
  if (found != std::string::npos) {
    text_.resize(found);
    stopped_ = true;
    return finish();
  }
  searched_ = text_.size() - std::min(text_.size(), longest);
  return show_until(complete_end(std::string_view(text_).substr(0, text_.size() - open)));
}

std::string TextStream::finish() {
  return show_until(text_.size());
}

}  // namespace fwl
