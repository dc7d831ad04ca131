// Long chunks, whose products leave out the blocks above the diagonal, against short ones, in float64.
#include "core/fast_weight/linear_attention.h"

#include <gtest/gtest.h>

namespace fwl {
namespace {

// The attention and the gradients of q, k, v and log_decay.
std::vector<Tensor> attention_and_gradients(int64_t length, int64_t chunk, bool starts) {
  at::manual_seed(3);
  const auto options = at::TensorOptions().dtype(at::kDouble);
  const auto leaf = [&](int64_t width) {
    return (at::randn({2, length, width}, options) / 4).requires_grad_(true);
  };
  const Tensor q = leaf(5), k = leaf(5), v = leaf(7);
  const Tensor log_decay = at::full({}, -0.002, options).requires_grad_(true);
  Tensor start_bt;
  if (starts) {
    start_bt = at::zeros({2, length}, at::kBool);
    for (const int64_t t : {0, 511, 512, 700}) start_bt[1][t] = true;
    start_bt[0][length - 3] = true;
  }
  const LocalStates states = local_states(k, v, log_decay, start_bt, std::nullopt, chunk);
  std::vector<Tensor> results = {attend_local(q, k, v, log_decay, start_bt, states, chunk)};
  const auto gradients = torch::autograd::grad({results[0].mul(at::randn(results[0].sizes(), options)).sum()},
                                               {q, k, v, log_decay});
  results.insert(results.end(), gradients.begin(), gradients.end());
  return results;
}

TEST(LinearAttention, LongChunksEqualShortOnes) {
  for (const int64_t length : {512, 513, 1300}) {
    for (const bool starts : {false, true}) {
      if (starts && length < 1000) continue;
      const auto expected = attention_and_gradients(length, 32, starts);
      for (const int64_t chunk : {512, 600, 1024, 1300}) {
        const auto found = attention_and_gradients(length, chunk, starts);
        for (size_t i = 0; i < expected.size(); ++i)
          EXPECT_LT((found[i] - expected[i]).norm().item<double>(), 1e-11 * expected[i].norm().item<double>())
              << "length " << length << ", chunk " << chunk << ", tensor " << i;
      }
    }
  }
}

// What is left over is copied, which costs more than a somewhat worse chunk.
TEST(LinearAttention, ChunksOnAGpuAreWholeWhereTheyCanBe) {
  const auto chosen = [](int64_t length) { return fastest_chunk(length, 2048, 512, at::kCUDA); };
  for (const int64_t length : {640, 1000, 2048}) EXPECT_EQ(chosen(length), length);
  for (const int64_t length : {4096, 8192, 65536, 1048576}) EXPECT_EQ(chosen(length), 1024) << length;
  for (const int64_t parts : {33, 36, 45, 49, 50, 65, 77, 104, 121, 160}) {
    const int64_t length = 128 * parts;
    EXPECT_EQ(length % chosen(length), 0) << length;
    EXPECT_GE(chosen(length), 512) << length;
    EXPECT_LE(chosen(length), 2048) << length;
  }
  for (const int64_t length : {128 * 71, 9001}) EXPECT_GE(chosen(length), 512) << length;
  EXPECT_EQ(fastest_chunk(9088, 2048, 512, at::kCPU), 64);
}

TEST(LinearAttention, ALengthOfWholeChunksIsALittleLonger) {
  for (const int64_t length : {1, 128, 129, 2048, 4096})
    EXPECT_EQ(length_of_whole_chunks(length), (length + 127) / 128 * 128);
  for (int64_t length = 4097; length < 40000; length += 61) {
    const int64_t whole = length_of_whole_chunks(length);
    EXPECT_EQ(whole % 128, 0);
    EXPECT_GE(whole, length);
    EXPECT_LT(whole, length + 5 * 128);
    for (const int64_t width : {512, 1024})
      EXPECT_EQ(whole % fastest_chunk(whole, 4 * width, width, at::kCUDA), 0) << whole << ", width " << width;
    EXPECT_EQ(length_of_whole_chunks(whole), whole);
  }
}

TEST(LinearAttention, LongChunksComputeLittleMoreThanHalfTheScores) {
  EXPECT_EQ(computed_keys(64), 64);
  EXPECT_EQ(computed_keys(512), 512);
  EXPECT_EQ(computed_keys(1024), 768);
  EXPECT_EQ(computed_keys(4096), 4096 * 9.0 / 16);
  EXPECT_NEAR(computed_keys(600), (512.0 * 512 + 88 * 600) / 600, 1e-9);
}

}  // namespace
}  // namespace fwl
