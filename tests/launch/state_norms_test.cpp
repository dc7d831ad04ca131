#include "launch/state_norms.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/base/error.h"
#include "launch/tensorboard/step_sizes.h"
#include "tests/support/small_model.h"

namespace fwl {
namespace {

constexpr auto kLast = WatchedSequence::Shard::kLast;

class StateNormsTest : public testing::Test {
 protected:
  ModelConfig config_ = small_model_config();
  std::unique_ptr<LanguageModel> model_ = std::make_unique<LanguageModel>(config_, at::kCPU, at::kFloat, 3);
  TokenBatch batch_ = random_batch(config_, 5, config_.context, at::kFloat, 6, {0, 11});

  Tensor gradient_through(SequenceView& view) {
    model_->parameters().zero_gradients();
    model_->parameters().backward(model_->training_loss(batch_, 0.01, view).objective);
    return model_->parameters().gradients().clone();
  }
};

TEST_F(StateNormsTest, AskingForThemChangesNoBitOfTheGradient) {
  for (const bool document_reset : {false, true}) {
    config_.fast_weight.document_reset = document_reset;
    model_ = std::make_unique<LanguageModel>(config_, at::kCPU, at::kFloat, 3);
    WholeSequence whole;
    const Tensor plain = gradient_through(whole);
    StateNorms norms(*model_);
    WatchedSequence watched(whole, norms, kLast);
    EXPECT_TRUE(at::equal(gradient_through(watched), plain));
    EXPECT_GT(plain.abs().max().item<double>(), 0);
  }
}

TEST_F(StateNormsTest, AStreamGoesOnAsIfNobodyLooked) {
  ContinuedSequence plain, inner;
  StateNorms norms(*model_);
  WatchedSequence watched(inner, norms, kLast);
  for (int window = 0; window < 3; ++window)
    EXPECT_TRUE(at::equal(gradient_through(watched), gradient_through(plain))) << window;
  EXPECT_TRUE(at::equal(inner.stream_state().fast.dense2_bdf, plain.stream_state().fast.dense2_bdf));
  EXPECT_EQ(watched.first_position(), 3 * config_.context);
}

TEST_F(StateNormsTest, TheyAreMeansOverTheSequencesOfAStep) {
  ContinuedSequence stream;
  gradient_through(stream);
  const FastWeightState state = stream.stream_state().fast;
  StateNorms norms(*model_);
  WholeSequence whole;
  WatchedSequence watched(whole, norms, kLast), earlier(whole, norms, WatchedSequence::Shard::kEarlier);
  gradient_through(watched);
  gradient_through(earlier);  // another shard's states are none of this one's
  const auto alone = make_local_communicator();
  const MeanStateNorms mean = norms.mean(*alone);
  ASSERT_EQ(mean.state.size(), 2u);
  const auto expect_mean = [&](size_t i, const char* name, const Tensor& state_bvk) {
    double sum = 0, change = 0;
    for (int64_t b = 0; b < 5; ++b) {
      sum += state_bvk[b].square().sum().sqrt().item<double>();
      change +=
          (state_bvk[b] * step_size_of(*model_, name).reshape({-1, 1})).square().sum().sqrt().item<double>();
    }
    const Tensor slow = model_->parameters()[cat("fast_weight.", name, ".weight")];
    EXPECT_EQ(mean.state[i].first, name);
    EXPECT_NEAR(mean.state[i].second, sum / 5, 1e-4 * sum);
    EXPECT_NEAR(mean.fast_to_slow[i].second, change / 5 / slow.square().sum().sqrt().item<double>(), 1e-4);
    EXPECT_GT(mean.fast_to_slow[i].second, 1e-3);
  };
  expect_mean(0, "dense1", state.dense1_bfd);
  expect_mean(1, "dense2", state.dense2_bdf);
}

TEST_F(StateNormsTest, ThePublishedFormHasOneOfTheNorm) {
  config_.fast_weight.fast_norm = true;
  config_.fast_weight.fast_biases = true;
  for (const char* form : {"scalar", "row"}) {
    config_.fast_weight.step_size = form;
    model_ = std::make_unique<LanguageModel>(config_, at::kCPU, at::kFloat, 3);
    StateNorms norms(*model_);
    WholeSequence whole;
    WatchedSequence watched(whole, norms, kLast);
    gradient_through(watched);
    const auto alone = make_local_communicator();
    const MeanStateNorms mean = norms.mean(*alone);
    ASSERT_EQ(mean.state.size(), 3u);
    EXPECT_EQ(mean.state[2].first, "norm");
    EXPECT_GT(mean.fast_to_slow[2].second, 0);
  }
}

TEST_F(StateNormsTest, NothingSeenIsNothingSaid) {
  const auto alone = make_local_communicator();
  EXPECT_TRUE(StateNorms(*model_).mean(*alone).state.empty());
}

}  // namespace
}  // namespace fwl
