// The exclusive prefix of fast-weight states over the ranks of a sequence:
//   S_in(r) = sum_{r' < r} (prod_{r' < j < r} carry_j) total_r',
// and, in the backward, the same sum from the other side over the cotangents of S_in. carry_j is what rank
// j's shard leaves of a state: its decay to the power of its length, or 0 where a document starts in it.
//
// Two algorithms (parallel/README.md has steps and bytes):
//   all_gather  every rank receives all states and adds up those before it: one step.
//   all_to_all  every rank receives one column block of all states, computes that block's prefixes for all
//               ranks, and sends them back: an exclusive scan in two steps, whose bytes per rank do not grow
//               with the group.
#pragma once

#include <memory>
#include <string>

#include "core/fast_weight/state_exchange.h"
#include "parallel/communicator.h"

namespace fwl {

enum class StateAlgorithm { kAllGather, kAllToAll };
// "auto", "all_gather", "all_to_all". auto: all_gather where it sends no more bytes (2 ranks) or where the
// states are so small that a second step costs more (256 KiB).
StateAlgorithm choose_state_algorithm(const std::string& name, int ranks, int64_t state_bytes);
const char* name_of(StateAlgorithm algorithm);

// `wire` is the dtype of states on their way (kFloat, kDouble or kBFloat16); prefixes are summed in the
// accumulation type. `algorithm` as above, resolved at the first exchange. The group outlives the object and
// every backward. One exchange at a time.
std::unique_ptr<StateExchange> make_state_exchange(Communicator& group, const std::string& algorithm,
                                                   at::ScalarType wire);

// Bytes that one rank sends in one exchange (forward or backward) of `state_elements` per sequence.
int64_t state_exchange_bytes(StateAlgorithm algorithm, int ranks, int64_t batch, int64_t state_elements,
                             int64_t tensors, int64_t wire_bytes, int64_t carry_bytes);

}  // namespace fwl
