#include "data/loader.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/hash.h"
#include "data/sample_order.h"

namespace fwl {

Loader::Loader(const Split& split, int64_t context, uint64_t seed, int64_t streams)
    : split_(split), context_(context), seed_(seed), streams_(streams) {
  require<ConfigError>(context >= 1, "a context of ", context, " tokens holds nothing. Give at least 1.");
  const int64_t tokens = split.num_tokens();
  require<DataError>(tokens > context, split.path(), ": split ", split.name(), " has ", tokens,
                     " tokens, a window takes model.context + 1 = ", context + 1, ". ",
                     tokens >= 2 ? cat("Give model.context of at most ", tokens - 1, ", or more text.")
                                 : "Give a split with more text.");
  // Room for a shift by context - 1 tokens, as far as the split has it.
  windows_ = std::max<int64_t>(1, (tokens - context) / context);
}

int64_t Loader::first_token_of(int64_t sample) const {
  require<InternalError>(sample >= 0, "sample ", sample, " was asked for");
  const int64_t tokens = split_.num_tokens();
  if (streams_ > 0) {
    const int64_t start = sample % streams_ * (tokens / streams_) + shift_of(seed_, 0, tokens);
    return (start + sample / streams_ % tokens * context_) % tokens;
  }
  const int64_t epoch = sample / windows_;
  const int64_t spare = tokens - 1 - windows_ * context_;
  const int64_t shift = shift_of(seed_, epoch, std::min(context_ - 1, spare) + 1);
  return window_of(seed_, epoch, sample % windows_, windows_) * context_ + shift;
}

Batch Loader::read(int64_t first_sample, int64_t rows, int64_t first_position, int64_t positions) const {
  Batch batch;
  batch.rows = rows;
  batch.length = positions;
  batch.tokens.resize(static_cast<size_t>(rows * (positions + 1)));
  batch.document_start.resize(static_cast<size_t>(rows * positions));
  for (int64_t r = 0; r < rows; ++r) {
    int64_t* tokens = batch.tokens.data() + r * (positions + 1);
    const int64_t first = (first_token_of(first_sample + r) + first_position) % split_.num_tokens();
    const int64_t before_end = std::min(positions + 1, split_.num_tokens() - first);
    split_.read_tokens(first, before_end, tokens);
    split_.read_tokens(0, positions + 1 - before_end, tokens + before_end);  // a stream goes round
    uint8_t* starts = batch.document_start.data() + r * positions;
    for (int64_t t = 0; t < positions; ++t) starts[t] = tokens[t] == split_.document_start() ? 1 : 0;
  }
  return batch;
}

uint64_t Loader::sequence_hash() const {
  std::string text = cat(seed_, ' ', context_, ' ', streams_);
  for (const ShardEntry& shard : split_.manifest().splits.at(split_.name()).shards)
    text += ' ' + shard.checksum;
  return hash_bytes(text);
}

}  // namespace fwl
