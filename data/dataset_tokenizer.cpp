#include "data/dataset_tokenizer.h"

#include "core/base/error.h"
#include "core/base/file.h"

namespace fwl {

void embed_tokenizer(const Tokenizer& tokenizer, Manifest* manifest) {
  manifest->tokenizer_kind = tokenizer.kind();
  manifest->tokenizer_hash = to_hex(tokenizer.hash());
  manifest->vocab_size = tokenizer.vocab_size();
  manifest->document_start = tokenizer.document_start();
  manifest->tokenizer_bytes = tokenizer.serialized();
}

std::string tokenizer_file(const Manifest& manifest) {
  return manifest.tokenizer_is_beside ? kTokenizerName : kManifestName;
}

std::unique_ptr<Tokenizer> dataset_tokenizer(const std::string& dataset_dir, const Manifest& m) {
  const std::string path = dataset_dir + "/" + tokenizer_file(m);
  auto tokenizer = make_tokenizer(
      m.tokenizer_kind, m.tokenizer_is_beside ? read_file(path, "tokenizer") : m.tokenizer_bytes, path);
  const std::string hash = to_hex(tokenizer->hash());
  require<DataError>(hash == m.tokenizer_hash && tokenizer->vocab_size() == m.vocab_size &&
                         tokenizer->document_start() == m.document_start,
                     path, ": not the tokenizer that made the data set (hash ", hash, " of ",
                     tokenizer->vocab_size(), " tokens, the manifest says ", m.tokenizer_hash, " of ",
                     m.vocab_size, "). Put the right one back, or make the data set again.");
  return tokenizer;
}

}  // namespace fwl
