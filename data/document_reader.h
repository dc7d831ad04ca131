// Cuts sources into documents, and documents into pieces, so that memory does not grow with a file's size.
//
// A source is a file (or standard input). Its documents are:
//   *.jsonl (.gz, .zst)    one per line: the string in the object's `field`; names are FILE/LINE, from 1
//   with document_start    a part that begins with a line that matches; names are FILE/NUMBER; what stands
//                          before the first matching line is FILE/0
//   else                   the whole file
// A compressed file's documents are named without .gz or .zst. Names depend on the sources alone.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "data/byte_source.h"
#include "data/document_source.h"

namespace fwl {

struct DocumentFormat {
  std::string field = "text";  // of .jsonl lines
  std::string document_start;  // POSIX extended regular expression, matched against each line; empty: none
};

struct Piece {
  std::string name;  // of the document
  std::string text;
  bool begins = false, ends = false;  // the document's first, last piece
};

// Where pieces end is a function of the document's text alone.
class DocumentReader {
 public:
  // Throws ConfigError when `format.document_start` is no regular expression, DataError when the file cannot
  // be opened.
  DocumentReader(const DocumentFile& file, const DocumentFormat& format);
  ~DocumentReader();
  // The next piece; false at the end. Throws DataError naming file and line for damaged input.
  bool next(Piece& piece);
  // Bytes taken from the file so far, before decompression.
  int64_t consumed() const;

  class Cutter;

 private:
  std::unique_ptr<Cutter> cutter_;
};

// Whether the source is a list of JSON lines.
bool is_json_lines(const std::string& name);
// Whether the source's one document is the whole file: then its name is known before it is read.
bool is_one_document(const DocumentFile& file, const DocumentFormat& format);
// Length of the part of `text` that goes into the next piece, when more may follow; at most text.size().
size_t piece_length(std::string_view text);
inline constexpr size_t kPieceBytes = size_t{1} << 20;

}  // namespace fwl
