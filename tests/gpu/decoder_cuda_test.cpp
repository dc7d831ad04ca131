// Decoding on a GPU against decoding on the CPU: what is uploaded, computed on the device and seen as views.
#include <gtest/gtest.h>

#include <cstdio>

#include "core/base/device.h"
#include "core/model/decoder.h"
#include "tests/support/small_model.h"

namespace fwl {
namespace {

class DecoderOnGpu : public testing::Test {
 protected:
  void SetUp() override {
    if (cuda_device_count() > 0) return;
    std::puts("SKIPPED: no GPU");
    GTEST_SKIP();
  }
};

// Two texts side by side, in runs of changing length; then the first one token by token.
Tensor read_all(const LanguageModel& model, const Tensor& token_bt) {
  Decoder decoder(model, Pass::kFast);
  const int64_t a = decoder.add_sequence(), b = decoder.add_sequence(), length = token_bt.size(1);
  std::vector<Tensor> logits;
  std::vector<DecoderInput> inputs;
  for (int64_t t = 0; t < length; ++t) {
    for (const int64_t row : {0, 1})
      inputs.push_back({row == 0 ? a : b, token_bt[row][t].item<int64_t>(), t % 5 != 3, true, t == 9});
    if (t % 4 != 2) continue;
    logits.push_back(decoder.read(inputs));
    inputs.clear();
  }
  decoder.settle(a, 1);
  for (int64_t t = 0; t < 6; ++t)
    logits.push_back(decoder.read({{a, token_bt[0][t].item<int64_t>(), true, true}}));
  decoder.settle(a, 2, false);
  return at::cat(logits).cpu().to(at::kDouble);
}

TEST_F(DecoderOnGpu, EqualsTheCpuWithEveryKindOfPositions) {
  for (const char* positions : {"rotary", "learned"}) {
    for (const int64_t heads : {1, 2}) {
      ModelConfig config = small_model_config();
      config.positions = positions;
      config.max_positions = config.positions == "learned" ? 64 : 0;
      config.fast_weight.decay_heads = heads;
      const LanguageModel cpu(config, at::kCPU, at::kDouble, 7), gpu(config, at::kCUDA, at::kDouble, 7);
      const Tensor token_bt = random_batch(config, 2, config.context, at::kDouble, 3).input_bt;
      const Tensor expected = read_all(cpu, token_bt), found = read_all(gpu, token_bt);
      EXPECT_LT((found - expected).abs().max().item<double>(), 1e-9)
          << positions << ", " << heads << " heads";
    }
  }
}

}  // namespace
}  // namespace fwl
