// Cuts sources into documents, and documents into pieces, so that memory does not grow with a file's size.
//
// A source is a file (or standard input). Its documents are:
//   JSON lines             one per line: the string in the object's `field`; names are FILE/LINE, from 1
//   with document_start    a part that begins with a line that matches; names are FILE/NUMBER; what stands
//                          before the first matching line is FILE/0
//   cut into lines         a line, with the blank lines behind it; names are FILE/NUMBER, from 1
//   cut into blocks        lines up to blank ones, with those; names are FILE/NUMBER, from 1
//   else                   the whole file
// JSON lines are `.jsonl`, `.ndjson` and, when their first line is an object, `.json`, in any case,
// compressed or not; `format` can say otherwise. A compressed file's documents are named without .gz and the
// like. Names and cuts depend on the sources alone: what all parts of a file hold, one after the other, is
// the file.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "data/byte_source.h"
#include "data/document_source.h"

namespace fwl {

enum class SourceFormat { kAuto, kText, kJsonLines };
enum class DocumentCut { kFiles, kLines, kBlocks };
enum class BadLines { kStop, kSkip };

struct DocumentFormat {
  std::string field = "text";  // of JSON lines
  std::string document_start;  // POSIX extended regular expression, matched against each line; empty: none
  SourceFormat format = SourceFormat::kAuto;
  DocumentCut cut = DocumentCut::kFiles;  // of text; not together with document_start
  int64_t document_bytes = 0;             // a cut is made where the document has as much text at least
  BadLines bad_lines = BadLines::kStop;   // JSON lines without a text: DataError, or counted and passed over
};

// A line of JSON that gave no document.
struct BadLine {
  std::string file;
  int64_t line = 0;
  std::string problem;
};
// All that were passed over; the first ones in detail.
struct SkippedLines {
  static constexpr size_t kMostNamed = 10;
  int64_t count = 0;
  std::vector<BadLine> first;
  void add(const BadLine& line);
  void add(const SkippedLines& others);
};

struct Piece {
  std::string name;  // of the document
  std::string text;
  bool begins = false, ends = false;  // the document's first, last piece
};

// Where pieces end is a function of the document's text alone.
class DocumentReader {
 public:
  // Throws ConfigError when `format.document_start` is no regular expression; as open_bytes() does; DataError
  // for a `.json` file that is no JSON lines.
  DocumentReader(const DocumentFile& file, const DocumentFormat& format);
  ~DocumentReader();
  // The next piece; false at the end. Throws DataError naming file and line for damaged input.
  bool next(Piece& piece);
  // Bytes taken from the file so far, before decompression.
  int64_t consumed() const;
  bool is_json_lines() const { return is_json_lines_; }
  // Lines that were passed over so far.
  const SkippedLines& skipped_lines() const;

  class Cutter;

 private:
  std::unique_ptr<Cutter> cutter_;
  bool is_json_lines_ = false;
};

// Whether the source's one document is the whole file: then its name is known before it is read.
bool is_one_document(const DocumentFile& file, const DocumentFormat& format);
// Length of the part of `text` that goes into the next piece, when more may follow; at most text.size().
size_t piece_length(std::string_view text);
inline constexpr size_t kPieceBytes = size_t{1} << 20;

}  // namespace fwl
