#include "launch/data_facts.h"

#include "core/base/error.h"
#include "core/base/hash.h"
#include "data/format.h"

namespace fwl {

Facts data_facts(const std::vector<const Split*>& splits) {
  Facts facts = {{"tokenizer", ""}, {"vocabulary", ""}, {"tokens", ""}, {"documents", ""}, {"checksums", ""}};
  std::string checksums;
  for (const Split* split : splits) {
    const char* separator = split == splits.front() ? "" : "+";
    const std::vector<std::string> values = {split->manifest().tokenizer_hash, cat(split->vocab_size()),
                                             cat(split->num_tokens()), cat(split->num_documents())};
    for (size_t i = 0; i < values.size(); ++i) facts[i].second += separator + values[i];
    for (const ShardEntry& shard : split->manifest().splits.at(split->name()).shards)
      checksums += shard.checksum + ' ';
  }
  facts.back().second = to_hex(hash_bytes(checksums));
  return facts;
}

void require_same_data(Communicator& group, const Facts& facts) {
  require_same_facts(
      group, "the data", facts,
      "(ranks that read different text compute nothing in common). Give all ranks the same files: a "
      "shared folder, or node-local copies of one data set.");
}

void require_same_data(Communicator& group, const Split& split) {
  require_same_data(group, data_facts({&split}));
}

}  // namespace fwl
