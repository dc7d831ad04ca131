// How the fast-weight states of a sequence that is cut into shards find their way from shard to shard.
// core defines what the layer asks for; parallel/state_exchange.h answers over a communicator.
#pragma once

#include <vector>

#include "core/base/torch.h"

namespace fwl {

// One fast tensor of this rank's shard: what it adds, and what it leaves of the state before it.
struct ShardState {
  Tensor total_bvk;  // after the shard's last position, from zero before the shard; accumulation type
  Tensor carry_b11;  // factor of the state before the shard; the leading dim is B or 1
};

// One exchange per forward, all fast tensors of the layer in one message (they all come from the slow pass).
class StateExchange {
 public:
  virtual ~StateExchange() = default;
  // Collective over the sequence's ranks. Starts the exchange and returns; computation goes on meanwhile.
  virtual void start(const std::vector<ShardState>& shards) = 0;
  // Collective over the sequence's ranks. The state before this rank's shard, per fast tensor [B, v, k]:
  //   S_in(r) = sum_{r' < r} (prod_{r' < j < r} carry_j) total_r'.
  // Differentiable in totals and carries (the backward is one exchange too: the reverse suffix sum).
  virtual std::vector<Tensor> finish() = 0;
};

}  // namespace fwl
