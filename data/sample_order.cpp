#include "data/sample_order.h"

#include "core/base/error.h"
#include "core/base/hash.h"

namespace fwl {
namespace {

constexpr int kRounds = 6;
constexpr uint64_t kOrderStream = 0x6F72646572ull;
constexpr uint64_t kShiftStream = 0x7368696674ull;

uint64_t key_of(uint64_t stream, uint64_t seed, int64_t epoch) {
  return mix_bits(mix_bits(seed ^ mix_bits(stream)) ^ static_cast<uint64_t>(epoch));
}

// A permutation of the words of 2 * half_bits bits.
uint64_t feistel(uint64_t word, int half_bits, uint64_t key) {
  const uint64_t mask = (uint64_t{1} << half_bits) - 1;
  uint64_t left = word >> half_bits;
  uint64_t right = word & mask;
  for (uint64_t round = 0; round < kRounds; ++round) {
    const uint64_t next = left ^ (mix_bits(key ^ mix_bits(right + (round << 32 << 16))) & mask);
    left = right;
    right = next;
  }
  return (left << half_bits) | right;
}

}  // namespace

MixturePlace mixture_place(const std::vector<int64_t>& weights, int64_t sample) {
  __extension__ using Wide = __int128;
  int64_t left = 0;
  for (const int64_t w : weights) left += w;
  for (size_t part = 0; part + 1 < weights.size(); ++part) {
    const auto before = static_cast<int64_t>(Wide{sample} * weights[part] / left);
    const auto after = static_cast<int64_t>((Wide{sample} + 1) * weights[part] / left);
    if (after > before) return {part, before};
    sample -= before;
    left -= weights[part];
  }
  return {weights.size() - 1, sample};
}

int64_t window_of(uint64_t seed, int64_t epoch, int64_t index, int64_t num_windows) {
  require<InternalError>(index >= 0 && index < num_windows && num_windows <= (int64_t{1} << 62), "window ",
                         index, " of ", num_windows, " was asked for");
  int half_bits = 1;
  while ((int64_t{1} << (2 * half_bits)) < num_windows) ++half_bits;
  const uint64_t key = key_of(kOrderStream, seed, epoch);
  auto word = static_cast<uint64_t>(index);
  do {
    word = feistel(word, half_bits, key);
  } while (word >= static_cast<uint64_t>(num_windows));
  return static_cast<int64_t>(word);
}

int64_t shift_of(uint64_t seed, int64_t epoch, int64_t bound) {
  require<InternalError>(bound > 0, "shift below ", bound, " was asked for");
  return static_cast<int64_t>(key_of(kShiftStream, seed, epoch) % static_cast<uint64_t>(bound));
}

}  // namespace fwl
