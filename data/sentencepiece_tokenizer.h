// The SentencePiece kind of tokenizer.h.
//
// SentencePiece alone loses bytes: it spells a space as U+2581, drops NUL and replaces invalid UTF-8. So the
// text is cut into plain spans, which the library encodes, and the rest, which becomes byte pieces here; a
// plain span that the library does not give back exactly becomes byte pieces too. Decoding uses a table from
// ids to bytes.
#pragma once

#include <array>

#include "data/tokenizer.h"

namespace sentencepiece {
class SentencePieceProcessor;
}

namespace fwl {

class SentencePieceTokenizer : public Tokenizer {
 public:
  SentencePieceTokenizer(std::string serialized, const std::string& where);
  ~SentencePieceTokenizer() override;
  std::vector<int32_t> encode(std::string_view bytes) const override;
  std::string decode(const std::vector<int32_t>& ids) const override;
  int64_t vocab_size() const override { return static_cast<int64_t>(text_of_.size()); }
  int32_t document_start() const override { return document_start_; }
  const char* kind() const override { return "sentencepiece"; }
  const std::string& serialized() const override { return serialized_; }

 private:
  void read_pieces(const std::string& where);
  void require_lossless_text(const std::string& where) const;
  void append_bytes(std::string_view bytes, std::vector<int32_t>& ids) const;
  void append_span(std::string_view plain, std::vector<int32_t>& ids) const;
  // What the library makes of a plain span; false when that does not decode to the span.
  bool encode_plain(std::string_view plain, std::vector<int32_t>& ids) const;

  std::string serialized_;
  std::unique_ptr<sentencepiece::SentencePieceProcessor> processor_;
  std::vector<std::string> text_of_;  // bytes of every id
  std::array<int32_t, 256> id_of_byte_{};
  int32_t document_start_ = -1;
};

// Length of the prefix of `bytes` that SentencePiece can represent: valid UTF-8 without NUL and U+2581.
size_t plain_prefix(std::string_view bytes);

}  // namespace fwl
