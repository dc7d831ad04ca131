#include "core/model/sequence_view.h"

#include <gtest/gtest.h>

#include "core/model/language_model.h"
#include "tests/support/small_model.h"

namespace fwl {
namespace {

TokenBatch positions_of(const TokenBatch& batch, int64_t first, int64_t count) {
  const auto part = [&](const Tensor& t) { return t.defined() ? t.narrow(1, first, count) : t; };
  return {part(batch.input_bt), part(batch.label_bt), part(batch.weight_bt), part(batch.document_start_bt)};
}

// Losses of a stream that is read in pieces of different lengths.
Tensor losses_in_pieces(const LanguageModel& model, const TokenBatch& batch, Pass pass,
                        const std::vector<int64_t>& pieces, FullAttention full) {
  ContinuedSequence view(full);
  std::vector<Tensor> losses;
  int64_t done = 0;
  for (const int64_t count : pieces) {
    losses.push_back(model.token_losses(positions_of(batch, done, count), pass, view));
    done += count;
  }
  EXPECT_EQ(done, batch.input_bt.size(1));
  return at::cat(losses, 1);
}

TEST(ContinuedSequence, PiecesEqualOneLongPassWithDecayAndDocuments) {
  for (const int64_t window : {0, 1, 8, 30}) {
    for (const double decay : {0.97, 1.0}) {
      ModelConfig config = small_model_config();
      config.window = window;
      config.fast_weight.decay_init = decay;
      config.fast_weight.fast_biases = config.fast_weight.fast_norm = decay < 1;
      const LanguageModel model(config, at::kCPU, at::kDouble, 3);
      const TokenBatch batch = random_batch(config, 2, 60, at::kDouble, 5, {0, 24, 37});
      for (const Pass pass : {Pass::kSlow, Pass::kFast}) {
        const Tensor whole = model.token_losses(batch, pass);
        const Tensor pieces =
            losses_in_pieces(model, batch, pass, {24, 1, 12, 23}, FullAttention::kRemembers);
        EXPECT_LT((pieces - whole).abs().max().item<double>(), 1e-11) << "window " << window;
      }
    }
  }
}

TEST(ContinuedSequence, WithForgettingFullAttentionOnlyTheFastWeightsGoOn) {
  ModelConfig config = small_model_config();
  config.window = 0;
  const LanguageModel model(config, at::kCPU, at::kDouble, 3);
  const TokenBatch batch = random_batch(config, 2, 48, at::kDouble, 5);
  const auto second_half = [&](Pass pass) {
    return losses_in_pieces(model, batch, pass, {24, 24}, FullAttention::kForgets).narrow(1, 24, 24);
  };
  const auto alone = [&](Pass pass) { return model.token_losses(positions_of(batch, 24, 24), pass); };
  EXPECT_LT((second_half(Pass::kSlow) - alone(Pass::kSlow)).abs().max().item<double>(), 1e-11);
  EXPECT_GT((second_half(Pass::kFast) - alone(Pass::kFast)).abs().max().item<double>(), 1e-3);
}

TEST(ContinuedSequence, WithAForgottenWindowADocumentStartHidesAllEarlierText) {
  for (const int64_t window : {0, 8}) {
    ModelConfig config = small_model_config();
    config.window = window;
    const LanguageModel model(config, at::kCPU, at::kDouble, 3);
    const TokenBatch batch = random_batch(config, 2, 48, at::kDouble, 5, {0, 24});
    for (const Pass pass : {Pass::kSlow, Pass::kFast}) {
      const auto second = [&](ContinuedSequence view) {
        model.token_losses(positions_of(batch, 0, 24), pass, view);
        return model.token_losses(positions_of(batch, 24, 24), pass, view);
      };
      const Tensor alone = model.token_losses(positions_of(batch, 24, 24), pass);
      const Tensor forgotten = second(ContinuedSequence(FullAttention::kForgets, WindowMemory::kForgotten));
      EXPECT_LT((forgotten - alone).abs().max().item<double>(), 1e-11) << "window " << window;
      if (window == 0) continue;
      const Tensor kept = second(ContinuedSequence(FullAttention::kForgets, WindowMemory::kKept));
      EXPECT_GT((kept - alone).abs().max().item<double>(), 1e-6);
    }
  }
}

TEST(ContinuedSequence, WithoutDocumentResetTheStateCrossesDocuments) {
  ModelConfig config = small_model_config();
  const TokenBatch batch = random_batch(config, 1, 24, at::kDouble, 5, {0, 12});
  const Tensor reset = LanguageModel(config, at::kCPU, at::kDouble, 3).token_losses(batch, Pass::kFast);
  config.fast_weight.document_reset = false;
  const Tensor carried = LanguageModel(config, at::kCPU, at::kDouble, 3).token_losses(batch, Pass::kFast);
  EXPECT_TRUE(at::equal(reset.narrow(1, 0, 12), carried.narrow(1, 0, 12)));
  EXPECT_GT((reset - carried).abs().max().item<double>(), 1e-3);
}

}  // namespace
}  // namespace fwl
