// The state after reading a document, in a file: HDF5 with one dataset per tensor (names: launch/
// carried_state.h) and, as attributes, the position, the last token, a hash of the model and a CRC-32 of all.
#pragma once

#include <string>

#include "launch/generation/generator.h"

namespace fwl {

// Of the model's config, its weights and its tokenizer: a state means something to that model alone.
uint64_t identity_of(const LanguageModel& model, const Tokenizer& tokenizer);

// Writes to a temporary name and renames. Throws DataError.
void write_state(const std::string& path, const ReadingState& reading, uint64_t identity);
// The position that a state goes on from, of its header alone: known before any weights are read. Throws
// DataError for a file that is no state.
int64_t position_of_state(const std::string& path);
// `device` and `compute`: as in from_named(). Throws DataError for a damaged or foreign file, ConfigError for
// another model's.
ReadingState read_state(const std::string& path, uint64_t identity, at::Device device,
                        at::ScalarType compute);

}  // namespace fwl
