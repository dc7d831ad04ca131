// What a rank writes of weights and moments.
#pragma once

#include <vector>

#include "checkpoints/part.h"
#include "parallel/sharded_optimizer.h"

namespace fwl {

// So that each element is written once, and the ranks share them evenly: `ranks` write `ranks` times as fast
// as one. Views, which live as long as the optimizer and the parameters. Changes neither, so that a thread
// may ask while a step reads the weights.
std::vector<SliceBlock> owned_blocks(const Parameters& parameters, ShardedOptimizer& optimizer, int rank,
                                     int ranks);

}  // namespace fwl
