#include "launch/data_hash.h"

#include "core/base/hash.h"

namespace fwl {
namespace {

constexpr uint64_t kFactor = 7450580596923828125ull;  // 5^27
constexpr int kPositionBits = 24;

}  // namespace

void DataHash::add(const Batch& batch, int64_t first_sample, int64_t first_position) {
  for (int64_t row = 0; row < batch.rows; ++row) {
    const int64_t* tokens = batch.tokens.data() + row * (batch.length + 1);
    const uint64_t place =
        (static_cast<uint64_t>(first_sample + row) << kPositionBits) + static_cast<uint64_t>(first_position);
    for (int64_t t = 0; t < batch.length; ++t)
      step_ += mix_bits(mix_bits(place + static_cast<uint64_t>(t)) ^ static_cast<uint64_t>(tokens[t]));
  }
}

void DataHash::end_step() {
  share_ = share_ * kFactor + step_;
  step_ = 0;
}

}  // namespace fwl
