// Splits that options name, and whether their tokens mean to a model what it has learned.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "checkpoints/manifest.h"
#include "data/dataset.h"
#include "launch/run_config.h"

namespace fwl {

// Which tokenizer made a text's tokens. Two vocabularies of one size say nothing of each other: the hash
// does.
struct TokenizerIdentity {
  std::string kind, hash;  // 16 hexadecimal digits
  bool operator==(const TokenizerIdentity&) const = default;
};
TokenizerIdentity identity_of(const Split& split);
TokenizerIdentity identity_of(const Tokenizer& tokenizer);
std::string to_string(const TokenizerIdentity& identity);  // "byte 0123456789abcdef"
nlohmann::json to_json(const TokenizerIdentity& identity);

// Opens the split DIR/SPLIT that `option` ("--data") names, through symbolic links too. Throws ConfigError
// for a whole data set, listing its splits, and DataError for what is none.
Split open_split(const std::string& option, const std::string& path);
// The split `name` of the same data set. Throws DataError.
Split open_beside(const Split& split, const std::string& name);
// Whether that is there and holds text.
bool has_text_beside(const Split& split, const std::string& name);

// Throws DataError that names both tokenizers, unless they are one. `model` says whose the second is: a
// checkpoint.
void require_tokenizer(const std::string& option, const Split& split, const TokenizerIdentity& tokenizer,
                       const std::string& model);
// Throws DataError that names the option, and the splits beside it that hold text, when it holds no token to
// predict.
void require_text(const std::string& option, const Split& split);

// Of the tokenizer and of all tokens in order, wherever the data set lies. Splits without text have none in
// common.
std::string content_hash(const Split& split);
bool same_text(const Split& a, const Split& b);
// Whether the run that wrote the checkpoint was trained on this split, alone or in a mixture. A mixture whose
// data sets are gone is not recognised.
bool was_trained_on(const RunConfig& config, const CheckpointInfo& info, const Split& split);

}  // namespace fwl
