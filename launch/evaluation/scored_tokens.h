// What an evaluation keeps of every token that it scored, on the host: what loss is broken down by
// (breakdown.h) and resampled over (intervals.h).
#pragma once

#include <cstdint>
#include <vector>

namespace fwl {

// Every scored token of the evaluated documents, in reading order.
struct ScoredTokens {
  std::vector<int32_t> token;     // id of the label
  std::vector<int32_t> document;  // index in the split
  std::vector<int64_t> position;  // of the label in its document, from 0
  std::vector<float> nats;        // its negative log-likelihood
};

}  // namespace fwl
