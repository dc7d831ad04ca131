// A language model of a few thousand parameters and random batches for it.
#pragma once

#include "core/model/language_model.h"

namespace fwl {

// 2 layers, width 16, vocabulary 31, context 24, window 8; float64 steps of an untrained model with large
// step sizes, so that the fast weights matter.
ModelConfig small_model_config();
// Random tokens; a document starts at every position listed (in every sequence).
TokenBatch random_batch(const ModelConfig& config, int64_t rows, int64_t length, at::ScalarType accumulation,
                        uint64_t seed, const std::vector<int64_t>& documents = {});

}  // namespace fwl
