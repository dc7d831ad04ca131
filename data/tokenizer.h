// Text to tokens and back, without loss: decode(encode(x)) == x for any bytes x, valid UTF-8 or not.
//
// Two kinds (data/FORMAT.md): `byte` and `sentencepiece`. A tokenizer is immutable and may be used by several
// threads at once. Its document-start token cannot come out of encode().
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace fwl {

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  virtual std::vector<int32_t> encode(std::string_view bytes) const = 0;
  // Document starts decode to nothing. Throws DataError for an id outside the vocabulary.
  virtual std::string decode(const std::vector<int32_t>& ids) const = 0;
  virtual int64_t vocab_size() const = 0;
  virtual int32_t document_start() const = 0;
  virtual const char* kind() const = 0;  // "byte" or "sentencepiece"
  // The bytes from which make_tokenizer() builds it again; empty for `byte`.
  virtual const std::string& serialized() const = 0;
  uint64_t hash() const;  // hash_bytes of the serialized bytes
};

std::unique_ptr<Tokenizer> make_byte_tokenizer();
// `where` names the source in errors. Throws DataError when the bytes are no SentencePiece model, or one that
// cannot give back every text (another normalisation, no byte pieces, no document start).
std::unique_ptr<Tokenizer> make_tokenizer(const std::string& kind, const std::string& serialized,
                                          const std::string& where);
// `path`: the word "byte", or a SentencePiece model file. Throws DataError.
std::unique_ptr<Tokenizer> open_tokenizer(const std::string& path);

}  // namespace fwl
