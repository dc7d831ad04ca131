// The state after reading a document, in a file: HDF5 with one dataset per tensor (names: launch/
// carried_state.h) and, as attributes, the position, the last token, a hash of the model and a CRC-32 of all.
#pragma once

#include <string>

#include "launch/generation/generator.h"

namespace fwl {

// Of the model's config, its weights and its tokenizer: a state means something to that model alone.
uint64_t identity_of(const LanguageModel& model, const Tokenizer& tokenizer);

// The first tensor of the state that holds a NaN or an infinity; empty for none.
std::string nonfinite_part(const ReadingState& reading);
// `path` appears when it is whole (core/base/new_file.h). Throws DataError, and CheckFailed for a state that
// is not finite.
void write_state(const std::string& path, const ReadingState& reading, uint64_t identity);
// What a state's header says: known before any weights are read.
struct StateHead {
  int64_t position = 0;  // that it goes on from
  bool has_fast_weights = false;
};
// Throws DataError for a file that is no state.
StateHead head_of_state(const std::string& path);
// `device` and `compute`: as in from_named(). Throws DataError for a file that is damaged, foreign or not
// finite, ConfigError for another model's.
ReadingState read_state(const std::string& path, uint64_t identity, at::Device device,
                        at::ScalarType compute);

}  // namespace fwl
