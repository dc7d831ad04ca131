#include "core/model/flops.h"

#include <gtest/gtest.h>

namespace fwl {
namespace {

// Numbers small enough to count by hand: d = 4, h = 8, f = 16, V = 10, 2 blocks.
ModelConfig tiny() {
  ModelConfig c;
  c.layers = 2;
  c.width = 4;
  c.heads = 2;
  c.feed_forward_ratio = 2;
  c.window = 0;
  c.vocab_size = 10;
  c.fast_weight.chunk = 2;
  c.fast_weight.fast_layers = "both";
  c.fast_weight.hessian_threshold = 0;
  return c;
}

SequenceRead positions(int64_t count) {
  SequenceRead read;
  read.positions = count;
  return read;
}

TEST(Flops, OfAStaticForwardAreThoseCountedByHand) {
  const Flops f = forward_flops(tiny(), Pass::kSlow, positions(3));
  // Per token and block: query, key, value, out 4 x 2 x 16 = 128; up and down 2 x 2 x 32 = 128.
  EXPECT_EQ(f.body, 3 * 2 * (128 + 128));
  // 1 + 2 + 3 pairs; each a score and a weighted value over 4 numbers: 16; 2 blocks.
  EXPECT_EQ(f.attention, 6 * 16 * 2);
  EXPECT_EQ(f.layer, 3 * 2 * 2 * 4 * 16);
  EXPECT_EQ(f.head, 3 * 2 * 10 * 4);
  EXPECT_EQ(f.total(), 1536 + 192 + 768 + 240);
}

TEST(Flops, OfAFastForwardAreThoseOfTheAlgebra) {
  // d f = 64. Slow 4, inner gradient 2, fast second dense 2; states 2 x (2 + 2): 16 x 64. Within the chunk
  // 2 layers x 2 x 2 x (4 + 16). Head: slow logits, gradient, fast logits.
  EXPECT_EQ(forward_flops(tiny(), Pass::kFast, positions(3)).layer, 3 * (16 * 64 + 2 * 2 * 2 * 20));
  EXPECT_EQ(forward_flops(tiny(), Pass::kFast, positions(3)).head, 3 * 3 * 2 * 40);
  SequenceRead likely = positions(3);
  likely.inner_rows = 2.5;
  EXPECT_EQ(forward_flops(tiny(), Pass::kFast, likely).head, 3 * (2 * 2 * 40 + 2 * 2.5 * 4))
      << "an inner gradient of 2.5 rows of the unembedding";
  EXPECT_EQ(forward_flops(tiny(), Pass::kSlow, likely).head, 3 * 2 * 40) << "the slow pass has none";
  EXPECT_EQ(forward_flops(tiny(), Pass::kFast, positions(3)).body,
            forward_flops(tiny(), Pass::kSlow, positions(3)).body);
  EXPECT_EQ(forward_flops(tiny(), Pass::kFast, positions(1)).layer, 8 * 64 + 2 * 2 * 1 * 20)
      << "one chunk: no state between chunks";
  SequenceRead carried = positions(3);
  carried.has_inbound = true;
  EXPECT_EQ(forward_flops(tiny(), Pass::kFast, carried).layer, 3 * (20 * 64 + 2 * 2 * 2 * 20))
      << "the state from before is read once more by each layer";
  SequenceRead last = positions(2);
  last.carries_state = true;
  EXPECT_EQ(forward_flops(tiny(), Pass::kFast, last).layer, 2 * (12 * 64 + 2 * 2 * 2 * 20))
      << "one chunk that leaves its state: written, not read";
  EXPECT_EQ(backward_flops(tiny(), Pass::kFast, last).layer, 2 * 2 * (8 * 64 + 2 * 2 * 2 * 20))
      << "no gradient flows into a state that is left";
  ModelConfig open = tiny();
  open.fast_weight.chunk = 0;
  EXPECT_EQ(forward_flops(open, Pass::kFast, positions(3)).layer, 3 * (8 * 64 + 2 * 2 * 3 * 20))
      << "the CPU's chunk of 64 holds all 3";
  ModelConfig second = tiny();
  second.fast_weight.fast_layers = "second";
  EXPECT_EQ(forward_flops(second, Pass::kFast, positions(3)).layer, 3 * (8 * 64 + 2 * 2 * 20));
}

TEST(Flops, OfAttentionCountTheKeysThatAQueryMayLookAt) {
  ModelConfig c = tiny();
  const double pair = 2 * 4 * 4;
  c.window = 3;
  EXPECT_EQ(forward_flops(c, Pass::kSlow, positions(6)).attention, (1 + 2 + 3 + 3 + 3 + 3) * pair);
  SequenceRead goes_on = positions(4);
  goes_on.remembered = 1;
  EXPECT_EQ(forward_flops(c, Pass::kSlow, goes_on).attention, (2 + 3 + 3 + 3) * pair);
  goes_on.remembered = 100;
  EXPECT_EQ(forward_flops(c, Pass::kSlow, goes_on).attention, 4 * 3 * pair);
  c.window = 0;
  goes_on.remembered = 5;
  EXPECT_EQ(forward_flops(c, Pass::kSlow, goes_on).attention, (6 + 7 + 8 + 9) * pair);
  // Backward: two products a pair for own keys, half of that for remembered ones.
  EXPECT_EQ(backward_flops(c, Pass::kSlow, goes_on).attention, (2 * (1 + 2 + 3 + 4) + 4 * 5) * pair);
  EXPECT_EQ(backward_flops(c, Pass::kSlow, positions(4)).attention, 2 * 10 * pair);
}

TEST(Flops, OfLabelledPositionsAloneAreInLayerAndHead) {
  SequenceRead read = positions(6);
  read.labelled = 2;
  const Flops part = forward_flops(tiny(), Pass::kSlow, read),
              all = forward_flops(tiny(), Pass::kSlow, positions(6));
  EXPECT_EQ(part.body, all.body);
  EXPECT_EQ(part.layer * 3, all.layer);
  EXPECT_EQ(part.head * 3, all.head);
}

// Layer and head together, forward and backward: static 12 df + 6 Vd, second order 48 df + 18 Vd, first order
// 36 df + 10 Vd, without the products within chunks.
TEST(Flops, OfTrainingAreTheTablesOfTheDesign) {
  ModelConfig c = tiny();
  c.width = 768;
  c.heads = 12;
  c.vocab_size = 32000;
  c.fast_weight.chunk = 1;
  const double df = 768.0 * 3072, vd = 32000.0 * 768, within = 2 * 2 * (768.0 + 3072);
  const auto layer_and_head = [&] {
    const Flops f = training_flops(c, 100);
    return (f.layer + f.head) / 100;
  };
  EXPECT_DOUBLE_EQ(layer_and_head(), 48 * df + 18 * vd + 3 * within);
  c.fast_weight.inner_steps = 2;
  EXPECT_DOUBLE_EQ(layer_and_head(), 84 * df + 30 * vd + 6 * within);
  c.fast_weight.inner_steps = 1;
  c.fast_weight.learned_start = true;
  EXPECT_DOUBLE_EQ(layer_and_head(), 60 * df + 18 * vd + 3 * within);
  c.fast_weight.learned_start = false;
  c.fast_weight.hessian_threshold = 0.01;
  EXPECT_DOUBLE_EQ(layer_and_head(), 48 * df + 12 * vd + 3 * within) << "one outer product of four";
  c.fast_weight.second_order = false;
  c.fast_weight.slow_loss_weight = 0;
  EXPECT_DOUBLE_EQ(layer_and_head(), 36 * df + 10 * vd + 3 * within - 2 * (768.0 + 3072));
  c.fast_weight.slow_loss_weight = 0.5;
  EXPECT_DOUBLE_EQ(layer_and_head(), 40 * df + 12 * vd + 3 * within - 2 * (768.0 + 3072));
  c.fast_weight.update = "none";
  EXPECT_DOUBLE_EQ(layer_and_head(), 12 * df + 6 * vd);
  const Flops whole = training_flops(c, 100);
  EXPECT_DOUBLE_EQ(whole.body, 3 * forward_flops(c, Pass::kSlow, positions(100)).body);
}

TEST(Flops, OfAStaticModelAreTwoForEachMatrixWeight) {
  ModelConfig c = tiny();
  c.layers = 12;
  c.width = 768;
  c.heads = 12;
  c.feed_forward = "swiglu";
  c.feed_forward_ratio = 4;
  c.vocab_size = 50304;
  c.window = 1;
  const double weights = 12 * (4 * 768.0 * 768 + 3 * 4 * 768.0 * 768) + 2 * 768.0 * 3072 + 50304 * 768.0;
  const Flops f = forward_flops(c, Pass::kSlow, positions(1));
  EXPECT_DOUBLE_EQ(f.total() - f.attention, 2 * weights);
  c.fast_weight.update = "absent";
  const Flops plain = forward_flops(c, Pass::kSlow, positions(1));
  EXPECT_DOUBLE_EQ(plain.total() - plain.attention, 2 * (weights - 2 * 768.0 * 3072));
}

}  // namespace
}  // namespace fwl
