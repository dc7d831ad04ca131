// What a rank says of the data that it reads: compared over all ranks before anything is computed, since
// node-local copies of two ages, or a folder that is half synced, would be read without a word.
#pragma once

#include <cstdint>
#include <vector>

#include "data/dataset.h"
#include "parallel/texts.h"

namespace fwl {

// Of all `splits` (of a mixture: in its order): tokenizer's hash, vocabulary, tokens, documents, shards'
// checksums.
Facts data_facts(const std::vector<const Split*>& splits);
// Collective over `group` (host tensors). Throws DataError on all ranks, naming those that differ and how.
void require_same_data(Communicator& group, const Facts& facts);
// The same where each rank has opened one split by itself.
void require_same_data(Communicator& group, const Split& split);

}  // namespace fwl
