#include "data/tokenizer.h"

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/hash.h"
#include "data/sentencepiece_tokenizer.h"

namespace fwl {
namespace {

class ByteTokenizer : public Tokenizer {
 public:
  std::vector<int32_t> encode(std::string_view bytes) const override {
    std::vector<int32_t> ids;
    ids.reserve(bytes.size());
    for (const char c : bytes) ids.push_back(static_cast<unsigned char>(c));
    return ids;
  }
  std::string decode(const std::vector<int32_t>& ids) const override {
    std::string text;
    for (const int32_t id : ids) {
      require<DataError>(id >= 0 && id <= kDocumentStart, "token ", id,
                         " is outside the byte tokenizer's vocabulary of ", vocab_size(),
                         " (it comes from another tokenizer). Use the tokenizer of the data set.");
      if (id != kDocumentStart) text.push_back(static_cast<char>(id));
    }
    return text;
  }
  int64_t vocab_size() const override { return kDocumentStart + 1; }
  int32_t document_start() const override { return kDocumentStart; }
  const char* kind() const override { return "byte"; }
  const std::string& serialized() const override { return nothing_; }

 private:
  static constexpr int32_t kDocumentStart = 256;
  std::string nothing_;
};

}  // namespace

uint64_t Tokenizer::hash() const {
  return hash_bytes(serialized());
}

std::unique_ptr<Tokenizer> make_byte_tokenizer() {
  return std::make_unique<ByteTokenizer>();
}

std::unique_ptr<Tokenizer> make_tokenizer(const std::string& kind, const std::string& serialized,
                                          const std::string& where) {
  if (kind == "byte") return make_byte_tokenizer();
  require<DataError>(
      kind == "sentencepiece", where, ": tokenizer kind '", kind,
      "' does not exist (the file is damaged, or of a newer version). Kinds are byte and sentencepiece.");
  return std::make_unique<SentencePieceTokenizer>(serialized, where);
}

std::unique_ptr<Tokenizer> open_tokenizer(const std::string& path) {
  if (path == "byte") return make_byte_tokenizer();
  return make_tokenizer("sentencepiece", read_file(path, "tokenizer"), path);
}

}  // namespace fwl
