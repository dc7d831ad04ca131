// Counting over a split: words of its documents, and how often each token occurs.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "launch/evaluation/reading_plan.h"

namespace fwl {

// Runs of bytes without ASCII whitespace (space, \t, \n, \v, \f, \r).
int64_t count_words(std::string_view text);
// Words of each planned document's original text, decoded from its tokens. Throws DataError.
std::vector<double> words_of(const Split& split, const std::vector<PlannedDocument>& documents);

// How often every id of the vocabulary occurs. A split of more than `limit` tokens is sampled: blocks that
// lie evenly over it, `limit` tokens in all; 0: all of it. Throws DataError.
std::vector<int64_t> token_counts(const Split& split, int64_t limit);

}  // namespace fwl
