// The order in which training windows are read, as a pure function: nothing is stored, so a resumed or
// resized run continues the same sequence from its sample index alone.
//
// Each epoch is one permutation of the windows: a Feistel network over the smallest even number of bits that
// can number them (Luby, Rackoff 1988, with mix_bits as the round function), restricted to the windows by
// cycle walking (Black, Rogaway 2002): a result outside the range is encrypted again until it falls inside.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace fwl {

// Which data set of a mixture a sample comes from, and its number among that data set's own samples.
struct MixturePlace {
  size_t part = 0;
  int64_t index = 0;
};
// `weights` are positive and sum to at most 2^40. Of any run of n samples, part k gets n weights[k] / sum,
// give or take as many samples as there are parts: part 0 takes sample s when floor((s + 1) q) > floor(s q),
// q its share; what is left is shared out among the others by the same rule.
MixturePlace mixture_place(const std::vector<int64_t>& weights, int64_t sample);

// Image of `index` under the permutation of [0, num_windows) that (seed, epoch) picks. Takes less than 4
// rounds of walking on average. Requires 0 <= index < num_windows <= 2^62.
int64_t window_of(uint64_t seed, int64_t epoch, int64_t index, int64_t num_windows);

// Number of tokens by which all windows of an epoch are shifted: uniform in [0, bound), chosen by (seed,
// epoch).
int64_t shift_of(uint64_t seed, int64_t epoch, int64_t bound);

}  // namespace fwl
