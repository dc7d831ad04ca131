// The tokenizer of a data set: embedded in its manifest, or beside it (format versions 1 and 2).
#pragma once

#include <memory>
#include <string>

#include "data/format.h"
#include "data/tokenizer.h"

namespace fwl {

// Puts the tokenizer's kind, bytes, hash and sizes into a manifest.
void embed_tokenizer(const Tokenizer& tokenizer, Manifest* manifest);
// The file that holds it, relative to the data set.
std::string tokenizer_file(const Manifest& manifest);
// Checked against the manifest's hash, vocabulary and document start. Throws DataError naming the file.
std::unique_ptr<Tokenizer> dataset_tokenizer(const std::string& dataset_dir, const Manifest& manifest);

}  // namespace fwl
