#include "data/document_reader.h"

#include <regex.h>
#include <strings.h>

#include <algorithm>
#include <atomic>
#include <deque>
#include <utility>

#include "core/base/error.h"
#include "core/base/log.h"
#include "data/json_text.h"

namespace fwl {
namespace {

constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
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

bool is_blank(std::string_view text) {
  return text.find_first_not_of(" \t\r\n") == std::string_view::npos;
}

bool ends_with_any_case(const std::string& name, std::string_view ending) {
  return name.size() > ending.size() &&
         strcasecmp(name.c_str() + name.size() - ending.size(), ending.data()) == 0;
}

bool is_named_json_lines(const std::string& name) {
  const std::string plain = without_compression(name);
  return ends_with_any_case(plain, ".jsonl") || ends_with_any_case(plain, ".ndjson") ||
         ends_with_any_case(plain, ".jsonlines");
}

// JSON of some kind: which, the content says.
bool is_named_json(const std::string& name) {
  return is_named_json_lines(name) || ends_with_any_case(without_compression(name), ".json");
}

// The first `most` lines of `head` that are not blank; a last one that `head` cuts is among them.
std::vector<std::string> first_lines(std::string_view head, size_t most) {
  std::vector<std::string> lines;
  if (head.starts_with(kByteOrderMark)) head.remove_prefix(kByteOrderMark.size());
  while (!head.empty() && lines.size() < most) {
    const std::string_view line = head.substr(0, head.find('\n'));
    head.remove_prefix(std::min(line.size() + 1, head.size()));
    if (!is_blank(line)) lines.emplace_back(line);
  }
  return lines;
}

// Whether a line is an object, as far as `head`, the beginning of a file, tells: one that it cuts counts as
// one.
bool holds_object(const std::vector<std::string>& lines, std::string_view head) {
  return std::any_of(lines.begin(), lines.end(), [&](const std::string& line) {
    const bool is_cut = head.size() >= kHeadBytes && head.ends_with(line);
    return is_cut ? line.find_first_not_of(" \t") == line.find('{') : is_json_object(line);
  });
}

// Whether a `.json` file holds JSON lines. One bad line does not hide the next.
bool holds_json_lines(const DocumentFile& file, std::string_view head) {
  const std::vector<std::string> lines = first_lines(head, 2);
  if (lines.empty()) return true;
  const char first = lines[0][lines[0].find_first_not_of(" \t\r")];
  if (first == '{' && holds_object(lines, head)) return true;
  throw DataError(cat("'", file.path, "' is ",
                      first == '['   ? "a JSON array"
                      : first == '{' ? "a JSON object over several lines"
                                     : "no JSON",
                      ", not JSON lines (each line would be an object, and its text a document). ",
                      first == '[' ? "Convert it: jq -c '.[]'" : "Convert it: jq -c .",
                      ", take it as text with --format text, or leave it out with --exclude."));
}

// A source that is read as text though its lines are objects: braces would be learned.
void warn_of_objects(const DocumentFile& file, const std::string& field, std::string_view head) {
  static std::atomic<int> said = 0;
  constexpr int kMost = 10;
  if (head.empty() || head[0] != '{' || said >= kMost) return;
  const std::vector<std::string> lines = first_lines(head, 1);
  if (lines.empty() || !is_json_object(lines[0]) || lines[0].find('"' + field + '"') == std::string::npos)
    return;
  log_warn(cat("'", file.path, "' is read as text, but its first line is a JSON object with '", field,
               "'. If it holds JSON lines, give --format jsonl.",
               ++said == kMost ? " Further files are not named." : ""));
}

bool is_json_source(const DocumentFile& file, const DocumentFormat& format, ByteSource& bytes) {
  if (format.format != SourceFormat::kAuto) return format.format == SourceFormat::kJsonLines;
  if (is_named_json_lines(file.name)) return true;
  const std::string_view head = bytes.peek(kHeadBytes);
  if (is_named_json(file.name)) return holds_json_lines(file, head);
  warn_of_objects(file, format.field, head);
  return false;
}

}  // namespace

bool is_one_document(const DocumentFile& file, const DocumentFormat& format) {
  if (!format.document_start.empty() || format.cut != DocumentCut::kFiles) return false;
  if (format.format != SourceFormat::kAuto) return format.format == SourceFormat::kText;
  return !is_named_json(file.name);
}

void SkippedLines::add(const BadLine& line) {
  count += 1;
  if (first.size() < kMostNamed) first.push_back(line);
}

void SkippedLines::add(const SkippedLines& others) {
  count += others.count;
  for (const BadLine& line : others.first)
    if (first.size() < kMostNamed) first.push_back(line);
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
  const SkippedLines& skipped() const { return skipped_; }

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
  SkippedLines skipped_;

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
  JsonLines(std::unique_ptr<ByteSource> bytes, const DocumentFile& file, const DocumentFormat& format)
      : Cutter(std::move(bytes)),
        path_(file.path),
        name_(without_compression(file.name)),
        field_(format.field),
        bad_lines_(format.bad_lines) {}

 private:
  bool advance() override {
    const std::string line = take_line(kLongestLine);
    if (line.empty()) return false;
    number_ += 1;
    const bool is_marked = number_ == 1 && line.starts_with(kByteOrderMark);
    if (is_blank(std::string_view(line).substr(is_marked ? kByteOrderMark.size() : 0))) return true;
    const bool is_too_long = line.size() >= kLongestLine;
    if (is_too_long) pass_over_rest(line);
    try {
      require<DataError>(!is_too_long, "longer than ", kLongestLine,
                         " bytes (a line is read as a whole). Split it.");
      const std::string text = json_string(line, field_);
      begin(cat(name_, '/', number_));
      add(text);
      end();
    } catch (const DataError& problem) {
      if (bad_lines_ == BadLines::kStop)
        throw DataError(cat(path_, ", line ", number_, ": ", problem.what(),
                            " (--bad-lines skip passes over such lines and counts them.)"));
      skipped_.add({path_, number_, problem.what()});
    }
    return true;
  }
  void pass_over_rest(const std::string& line) {
    for (char last = line.back(); last != '\n';) {
      const std::string rest = take_line(kLongestLine);
      if (rest.empty()) return;
      last = rest.back();
    }
  }
  std::string path_, name_, field_;
  BadLines bad_lines_;
  int64_t number_ = 0;
};

// A text in parts that begin where a line says so.
class Parts : public DocumentReader::Cutter {
 public:
  Parts(std::unique_ptr<ByteSource> bytes, const std::string& name, const DocumentFormat& format)
      : Cutter(std::move(bytes)),
        name_(name),
        pattern_(format.document_start),
        cut_(format.cut),
        document_bytes_(format.document_bytes),
        number_(pattern_.is_set() ? 0 : 1) {}

 private:
  bool advance() override {
    const std::string line = take_line(kLongestMatched);
    if (line.empty()) {
      if (open_) end();
      return std::exchange(open_, false);
    }
    if (at_line_start_ && begins_part(line)) {
      if (open_) end();
      number_ += 1;
      open_ = false;
    }
    if (!open_) {
      begin(cat(name_, '/', number_));
      bytes_ = 0;
      has_text_ = false;
    }
    open_ = true;
    // Of a long line this is a part, which may be blank alone.
    after_blank_ = is_blank(line) && (at_line_start_ || after_blank_);
    at_line_start_ = line.back() == '\n';
    has_text_ = has_text_ || !after_blank_;
    bytes_ += static_cast<int64_t>(line.size());
    add(line);
    return true;
  }
  bool begins_part(const std::string& line) const {
    if (pattern_.is_set()) return pattern_.matches(line.data(), length_of_text(line));
    if (!open_ || !has_text_ || is_blank(line) || bytes_ < document_bytes_) return false;
    return cut_ == DocumentCut::kLines || after_blank_;
  }
  // Without the line's end, be it LF or CR LF.
  static size_t length_of_text(std::string_view line) {
    if (line.ends_with('\n')) line.remove_suffix(1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    return line.size();
  }
  std::string name_;
  Pattern pattern_;
  DocumentCut cut_;
  int64_t document_bytes_, number_, bytes_ = 0;
  bool open_ = false, at_line_start_ = true, after_blank_ = false, has_text_ = false;
};

}  // namespace

DocumentReader::DocumentReader(const DocumentFile& file, const DocumentFormat& format) {
  auto bytes = open_bytes(file.path, file.name);
  is_json_lines_ = is_json_source(file, format, *bytes);
  const std::string name = without_compression(file.name);
  if (is_json_lines_) {
    cutter_ = std::make_unique<JsonLines>(std::move(bytes), file, format);
  } else if (!format.document_start.empty() || format.cut != DocumentCut::kFiles) {
    cutter_ = std::make_unique<Parts>(std::move(bytes), name, format);
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

const SkippedLines& DocumentReader::skipped_lines() const {
  return cutter_->skipped();
}

}  // namespace fwl
