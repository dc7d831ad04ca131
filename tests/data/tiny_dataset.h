// Small data sets for the tests of data/.
#pragma once

#include <map>
#include <string>

#include "data/dataset_folder.h"
#include "data/dataset_tokenizer.h"
#include "data/format.h"
#include "data/shard_writer.h"
#include "data/tokenizer.h"

namespace fwl {

using Texts = std::map<std::string, std::string>;  // document name -> text

inline TokenizedDocument tokenized(const std::string& name, const std::string& text,
                                   const Tokenizer& tokenizer) {
  TokenizedDocument document{name, static_cast<int64_t>(text.size()), {tokenizer.document_start()}};
  for (const int32_t id : tokenizer.encode(text)) document.tokens.push_back(id);
  return document;
}

// Writes `texts` as the split `train`; returns what the manifest says.
inline Manifest write_dataset(const std::string& dir, const Texts& texts, const Tokenizer& tokenizer,
                              int64_t shard_tokens) {
  prepare_dataset_folder(dir, {"train"}, ExistingDataset::kReplace);
  Manifest manifest;
  embed_tokenizer(tokenizer, &manifest);
  ShardWriter writer(dir, "train", manifest, shard_tokens);
  for (const auto& [name, text] : texts) writer.append(tokenized(name, text, tokenizer));
  manifest.splits["train"] = writer.finish();
  write_manifest(dir, manifest);
  return manifest;
}

// Text of `length` printable bytes that depends on `seed`.
inline std::string some_text(int64_t length, uint64_t seed) {
  std::string text;
  for (int64_t i = 0; i < length; ++i) {
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    text.push_back(static_cast<char>('!' + (seed >> 33) % 90));
  }
  return text;
}

// The error message of `action`; empty when it does not throw E.
template <typename E, typename Action>
std::string message_of(const Action& action) {
  try {
    action();
  } catch (const E& error) {
    return error.what();
  }
  return "";
}

}  // namespace fwl
