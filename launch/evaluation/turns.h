// Several modes read the same text in turns, in one process: each a share, then each the next. What holds the
// machine up for a while holds up all of them, so that their relative times stay true, and the turns show how
// far they spread.
#pragma once

#include <vector>

#include "launch/evaluation/evaluator.h"

namespace fwl {

// Collective over the group. The evaluators have begun (Evaluator::begin); their results are then complete.
// Texts that are read within a second are read again some times, for their times alone.
void read_in_turns(const std::vector<Evaluator*>& evaluators, Communicator& group);

}  // namespace fwl
