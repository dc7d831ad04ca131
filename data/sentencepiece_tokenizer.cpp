#include "data/sentencepiece_tokenizer.h"

#include <sentencepiece_processor.h>

#include <algorithm>

#include "core/base/error.h"
#include "data/utf8.h"

namespace fwl {
namespace {

constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581, how SentencePiece spells a space
// Longer spans are cut before a newline. A newline begins a piece of its own, so the cut changes no token.
// Short spans are encoded faster: the library's queue of merges stays small.
constexpr size_t kSpanBytes = size_t{1} << 11;
constexpr size_t kLongestSpan = size_t{1} << 18;

bool is_plain_character(std::string_view s, size_t length) {
  return length > 0 && s[0] != '\0' && s.substr(0, length) != kSpaceMark;
}

std::string replace_space_marks(std::string piece) {
  for (size_t at = piece.find(kSpaceMark); at != std::string::npos; at = piece.find(kSpaceMark, at + 1)) {
    piece.replace(at, kSpaceMark.size(), " ");
  }
  return piece;
}

// End of the span that begins at `text` and is encoded in one go.
size_t cut_of(std::string_view text) {
  if (text.size() <= kSpanBytes) return text.size();
  for (size_t at = text.find('\n', kSpanBytes); at != std::string_view::npos && at < kLongestSpan;
       at = text.find('\n', at + 1)) {
    if (text[at - 1] != '\n') return at;
  }
  // One very long line: cut between characters.
  size_t at = std::min(kLongestSpan, text.size());
  while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0u) == 0x80u) --at;
  return at;
}

}  // namespace

size_t plain_prefix(std::string_view bytes) {
  size_t end = 0;
  while (end < bytes.size()) {
    const std::string_view rest = bytes.substr(end);
    const size_t length = utf8_length(rest);
    if (!is_plain_character(rest, length)) break;
    end += length;
  }
  return end;
}

SentencePieceTokenizer::SentencePieceTokenizer(std::string serialized, const std::string& where)
    : serialized_(std::move(serialized)),
      processor_(std::make_unique<sentencepiece::SentencePieceProcessor>()) {
  // An empty message is a valid protocol buffer.
  const auto status =
      processor_->LoadFromSerializedProto(absl::string_view(serialized_.data(), serialized_.size()));
  require<DataError>(status.ok() && processor_->GetPieceSize() > 0, where, ": no SentencePiece model (",
                     status.ok() ? "it holds no pieces" : status.ToString(),
                     "). Give a file that `fwl tokenizer train` has made.");
  read_pieces(where);
  require_lossless_text(where);
}

SentencePieceTokenizer::~SentencePieceTokenizer() = default;

void SentencePieceTokenizer::read_pieces(const std::string& where) {
  id_of_byte_.fill(-1);
  const int size = processor_->GetPieceSize();
  for (int id = 0; id < size; ++id) {
    const std::string& piece = processor_->IdToPiece(id);
    if (processor_->IsByte(id)) {
      // A byte piece is spelled <0xHH>.
      const int value = piece.size() == 6 ? std::stoi(piece.substr(3, 2), nullptr, 16) : -1;
      require<DataError>(value >= 0, where, ": piece ", id, " '", piece,
                         "' is no byte piece. Make the tokenizer again.");
      id_of_byte_[static_cast<size_t>(value)] = id;
      text_of_.emplace_back(1, static_cast<char>(value));
    } else if (processor_->IsControl(id) || processor_->IsUnknown(id)) {
      text_of_.emplace_back();
    } else {
      text_of_.push_back(replace_space_marks(piece));
    }
  }
  document_start_ = processor_->bos_id();
  require<DataError>(
      std::count(id_of_byte_.begin(), id_of_byte_.end(), -1) == 0 && document_start_ >= 0, where,
      ": the model has no byte pieces or no <s> (it cannot give back every text). Train one with "
      "`fwl tokenizer train`.");
}

// Refuses models that normalise: encode() would fall back to bytes all the time.
void SentencePieceTokenizer::require_lossless_text(const std::string& where) const {
  const std::string probe = " a  b\n\n    c\td\r\n e\xC3\xA9 \xEF\xAC\x81 \xEF\xBC\xA1  \n";
  std::vector<int32_t> ids;
  require<DataError>(
      encode_plain(probe, ids), where,
      ": the model changes text (normalisation, dummy prefix or white space removal). Train one with "
      "`fwl tokenizer train`.");
}

void SentencePieceTokenizer::append_bytes(std::string_view bytes, std::vector<int32_t>& ids) const {
  for (const char c : bytes) ids.push_back(id_of_byte_[static_cast<unsigned char>(c)]);
}

bool SentencePieceTokenizer::encode_plain(std::string_view plain, std::vector<int32_t>& ids) const {
  const size_t before = ids.size();
  std::vector<int> pieces;
  if (!processor_->Encode(absl::string_view(plain.data(), plain.size()), &pieces).ok()) return false;
  size_t done = 0;
  for (const int id : pieces) {
    const std::string& text = text_of_[static_cast<size_t>(id)];
    if (text.empty() || plain.compare(done, text.size(), text) != 0) {
      ids.resize(before);
      return false;
    }
    done += text.size();
    ids.push_back(id);
  }
  if (done != plain.size()) ids.resize(before);
  return done == plain.size();
}

void SentencePieceTokenizer::append_span(std::string_view plain, std::vector<int32_t>& ids) const {
  while (!plain.empty()) {
    const std::string_view part = plain.substr(0, cut_of(plain));
    if (!encode_plain(part, ids)) append_bytes(part, ids);
    plain.remove_prefix(part.size());
  }
}

std::vector<int32_t> SentencePieceTokenizer::encode(std::string_view bytes) const {
  std::vector<int32_t> ids;
  ids.reserve(bytes.size() / 3);
  while (!bytes.empty()) {
    const size_t plain = plain_prefix(bytes);
    append_span(bytes.substr(0, plain), ids);
    bytes.remove_prefix(plain);
    if (bytes.empty()) break;
    const size_t odd = std::max<size_t>(1, utf8_length(bytes));
    append_bytes(bytes.substr(0, odd), ids);
    bytes.remove_prefix(odd);
  }
  return ids;
}

std::string SentencePieceTokenizer::decode(const std::vector<int32_t>& ids) const {
  std::string text;
  for (const int32_t id : ids) {
    require<DataError>(id >= 0 && id < vocab_size(), "token ", id, " is outside the vocabulary of ",
                       vocab_size(),
                       " (it comes from another tokenizer). Use the tokenizer of the data set.");
    text += text_of_[static_cast<size_t>(id)];
  }
  return text;
}

}  // namespace fwl
