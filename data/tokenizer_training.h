// Training of the SentencePiece kind of tokenizer (tokenizer.h).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/document_reader.h"

namespace fwl {

struct TokenizerTraining {
  int64_t vocab_size = 4096;
  // Text beyond this is sampled in blocks of some kilobytes, chosen by the hash of document name and
  // position.
  int64_t sample_bytes = 10'000'000;
  DocumentFormat format = {};
};

// The serialized model, lossless for every text, with few blanks or none too. Lines that `options.format`
// passes over are counted in `skipped`. A pure function of names, contents and options: one thread, no clock,
// no random numbers. Throws DataError when a document cannot be read or all are empty, ConfigError when the
// text has no room for `vocab_size` pieces or needs more, naming the size that fits.
std::string train_sentencepiece(const std::vector<DocumentFile>& documents, const TokenizerTraining& options,
                                SkippedLines* skipped = nullptr);

}  // namespace fwl
