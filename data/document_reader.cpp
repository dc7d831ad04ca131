#include "data/document_reader.h"

#include <regex.h>

#include <algorithm>
#include <deque>
#include <utility>

#include "core/base/error.h"
#include "data/json_text.h"

namespace fwl {
namespace {

constexpr size_t kReadBytes = size_t{1} << 18;
constexpr size_t kLongestLine = size_t{1} << 28;     // of JSON: a line is parsed as a whole
constexpr size_t kLongestMatched = size_t{1} << 16;  // a pattern sees this much of a line

class Pattern {
 public:
  explicit Pattern(const std::string& text) : text_(text) {
    if (text.empty()) return;
    const int code = regcomp(&regex_, text.c_str(), REG_EXTENDED | REG_NOSUB);
    if (code == 0) return;
    char why[128];
    regerror(code, &regex_, why, sizeof why);
    throw ConfigError(cat("--document-start '", text, "' is no extended regular expression (", why,
                          "). Write one as for grep -E, such as '^ = [^=]+ = $'."));
  }
  ~Pattern() {
    if (!text_.empty()) regfree(&regex_);
  }
  Pattern(const Pattern&) = delete;
  Pattern& operator=(const Pattern&) = delete;
  bool is_set() const { return !text_.empty(); }
  // `line` without its end.
  bool matches(const char* line, size_t length) const {
    regmatch_t range{0, static_cast<regoff_t>(std::min(length, kLongestMatched))};
    return regexec(&regex_, line, 1, &range, REG_STARTEND) == 0;
  }

 private:
  std::string text_;
  regex_t regex_{};
};

}  // namespace

bool is_json_lines(const std::string& name) {
  const std::string plain = without_compression(name);
  return plain.size() > 6 && plain.compare(plain.size() - 6, 6, ".jsonl") == 0;
}

bool is_one_document(const DocumentFile& file, const DocumentFormat& format) {
  return !is_json_lines(file.name) && format.document_start.empty();
}

size_t piece_length(std::string_view text) {
  if (text.size() <= kPieceBytes) return text.size();
  for (size_t at = text.rfind('\n', kPieceBytes); at != std::string_view::npos && at > kPieceBytes / 2;
       at = text.rfind('\n', at - 1)) {
    if (text[at - 1] != '\n') return at;
  }
  size_t at = kPieceBytes;  // one very long line: between two characters, where there are any
  while (at + 4 > kPieceBytes && (static_cast<unsigned char>(text[at]) & 0xC0u) == 0x80u) --at;
  return at;
}

// Collects the text of one document and hands it out in pieces; the kinds of sources fill it.
class DocumentReader::Cutter {
 public:
  explicit Cutter(std::unique_ptr<ByteSource> bytes) : bytes_(std::move(bytes)) {}
  virtual ~Cutter() = default;
  bool next(Piece& piece) {
    while (ready_.empty()) {
      if (!advance()) return false;
    }
    piece = std::move(ready_.front());
    ready_.pop_front();
    return true;
  }
  int64_t consumed() const { return bytes_->consumed(); }

 protected:
  // Reads some more of the source; false when nothing is left.
  virtual bool advance() = 0;

  void begin(std::string name) {
    name_ = std::move(name);
    first_ = true;
  }
  void add(std::string_view text) {
    pending_ += text;
    size_t done = 0;
    while (pending_.size() - done > kPieceBytes) {
      const std::string_view rest = std::string_view(pending_).substr(done);
      const size_t length = piece_length(rest);
      hand_out(rest.substr(0, length), /*ends=*/false);
      done += length;
    }
    pending_.erase(0, done);
  }
  void end() {
    hand_out(pending_, /*ends=*/true);
    pending_.clear();
  }
  // More of the source at the end of `held_`; false at its end.
  bool fill() {
    const size_t before = held_.size();
    held_.resize(before + kReadBytes);
    const size_t got = bytes_->read(held_.data() + before, kReadBytes);
    held_.resize(before + got);
    return got > 0;
  }
  // The next line with its newline, or the first `most` bytes of a longer one; empty at the end.
  std::string take_line(size_t most) {
    size_t newline = held_.find('\n', at_);
    while (newline == std::string::npos && held_.size() - at_ < most) {
      held_.erase(0, at_);
      at_ = 0;
      const size_t before = held_.size();
      if (!fill()) break;
      newline = held_.find('\n', before);
    }
    const size_t end = newline == std::string::npos ? held_.size() : newline + 1;
    const size_t begin = std::exchange(at_, std::min(end, at_ + most));
    return held_.substr(begin, at_ - begin);
  }

  std::string held_;  // read, not used yet, from at_
  size_t at_ = 0;

 private:
  void hand_out(std::string_view text, bool ends) {
    ready_.push_back({name_, std::string(text), std::exchange(first_, false), ends});
  }

  std::unique_ptr<ByteSource> bytes_;
  std::deque<Piece> ready_;
  std::string name_, pending_;
  bool first_ = true;
};

namespace {

class WholeFile : public DocumentReader::Cutter {
 public:
  WholeFile(std::unique_ptr<ByteSource> bytes, const std::string& name) : Cutter(std::move(bytes)) {
    begin(name);
  }

 private:
  bool advance() override {
    if (ended_) return false;
    held_.clear();
    if (fill()) {
      add(held_);
    } else {
      ended_ = true;
      end();
    }
    return true;
  }
  bool ended_ = false;
};

class JsonLines : public DocumentReader::Cutter {
 public:
  JsonLines(std::unique_ptr<ByteSource> bytes, const DocumentFile& file, const std::string& field)
      : Cutter(std::move(bytes)), path_(file.path), name_(without_compression(file.name)), field_(field) {}

 private:
  bool advance() override {
    const std::string line = take_line(kLongestLine);
    if (line.empty()) return false;
    number_ += 1;
    require<DataError>(line.size() < kLongestLine, path_, ", line ", number_, ": longer than ", kLongestLine,
                       " bytes (a line is read as a whole). Split it.");
    if (line.find_first_not_of(" \t\r\n") == std::string::npos) return true;
    begin(cat(name_, '/', number_));
    add(text_of(line));
    end();
    return true;
  }
  std::string text_of(const std::string& line) const {
    try {
      return json_string(line, field_);
    } catch (const DataError& problem) {
      throw DataError(cat(path_, ", line ", number_, ": ", problem.what()));
    }
  }
  std::string path_, name_, field_;
  int64_t number_ = 0;
};

class MarkedParts : public DocumentReader::Cutter {
 public:
  MarkedParts(std::unique_ptr<ByteSource> bytes, const std::string& name, const std::string& pattern)
      : Cutter(std::move(bytes)), name_(name), pattern_(pattern) {}

 private:
  bool advance() override {
    const std::string line = take_line(kLongestMatched);
    if (line.empty()) {
      if (open_) end();
      return std::exchange(open_, false);
    }
    const bool whole_line = line.back() == '\n';
    if (at_line_start_ && pattern_.matches(line.data(), length_of_text(line))) {
      if (open_) end();
      number_ += 1;
      open_ = false;
    }
    if (!open_) begin(cat(name_, '/', number_));
    open_ = true;
    at_line_start_ = whole_line;
    add(line);
    return true;
  }
  // Without the line's end, be it LF or CR LF.
  static size_t length_of_text(std::string_view line) {
    if (line.ends_with('\n')) line.remove_suffix(1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    return line.size();
  }
  std::string name_;
  Pattern pattern_;
  bool open_ = false, at_line_start_ = true;
  int64_t number_ = 0;
};

}  // namespace

DocumentReader::DocumentReader(const DocumentFile& file, const DocumentFormat& format) {
  auto bytes = open_bytes(file.path);
  const std::string name = without_compression(file.name);
  if (is_json_lines(file.name)) {
    cutter_ = std::make_unique<JsonLines>(std::move(bytes), file, format.field);
  } else if (!format.document_start.empty()) {
    cutter_ = std::make_unique<MarkedParts>(std::move(bytes), name, format.document_start);
  } else {
    cutter_ = std::make_unique<WholeFile>(std::move(bytes), name);
  }
}

DocumentReader::~DocumentReader() = default;

bool DocumentReader::next(Piece& piece) {
  return cutter_->next(piece);
}

int64_t DocumentReader::consumed() const {
  return cutter_->consumed();
}

}  // namespace fwl
