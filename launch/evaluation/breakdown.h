// Where an evaluation's loss lies: the same tokens in bins of their position, of how often they occur in
// training, of how often they have occurred in the document before, and of the document's length. Figure 2 of
// Clark et al. 2022 shows gains of fast weights on long documents, rare tokens and repeated tokens.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <vector>

#include "launch/evaluation/scored_tokens.h"

namespace fwl {

// {"position": BINS, "train_frequency": BINS, "occurrence": BINS, "document_length": BINS}. BINS is an array
// of {"low", "high", "tokens", "nats"}, ascending: the values from `low` to `high` (inclusive: 0, 1, 2, 3-4,
// 5-8, 9-16 and so on by powers of two), how many tokens have such a value, and the SUM of their nats. Bins
// without a token are left out. `position` counts from 0; `document_length` is the number of the document's
// scored tokens; `train_counts_by_token[id]` says how often a token occurs in training. A document's tokens
// must stand together. Throws InternalError when the columns differ in size, when an id has no count, or when
// a document comes back after another.
nlohmann::json breakdowns(const ScoredTokens& scored, const std::vector<int64_t>& train_counts_by_token);

}  // namespace fwl
