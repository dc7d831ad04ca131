#include "launch/owned_blocks.h"

namespace fwl {

std::vector<SliceBlock> owned_blocks(const Parameters& parameters, ShardedOptimizer& optimizer, int rank,
                                     int ranks) {
  AdamW& own = optimizer.own();
  // Its part where all ranks have everything.
  const ElementRange even_share = part_of({0, parameters.count()}, rank, ranks);
  const auto even = [&](const char* kind, const Tensor& flat) {
    return flat_block(kind, parameters, {even_share},
                      flat.detach().narrow(0, even_share.first, even_share.count));
  };
  const int64_t kept = own.first_moments().numel(), shared = optimizer.shared_elements();
  if (shared == kept)  // replicated
    return {even("weights", parameters.kept_values()), even("first_moments", own.first_moments()),
            even("second_moments", own.second_moments())};
  std::vector<ElementRange> ranges = own.owned();
  const int64_t written = kept - (rank == 0 ? 0 : shared);
  if (rank != 0 && shared > 0) ranges.pop_back();
  const auto spread = [&](const char* kind, const Tensor& flat) {
    return flat_block(kind, parameters, ranges, flat.narrow(0, 0, written));
  };
  return {
      own.masters().defined() ? spread("weights", own.masters()) : even("weights", parameters.kept_values()),
      spread("first_moments", own.first_moments()), spread("second_moments", own.second_moments())};
}

}  // namespace fwl
