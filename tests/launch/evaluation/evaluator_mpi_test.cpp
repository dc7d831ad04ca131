// Ranks share an evaluation and find what one rank finds, bit for bit.
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "launch/evaluation/evaluator.h"
#include "parallel/session.h"
#include "tests/data/tiny_dataset.h"
#include "tests/support/small_model.h"
#include "tests/support/temporary_folder.h"

namespace fwl {
namespace {

class SharedEvaluation : public testing::Test {
 protected:
  void SetUp() override {
    Texts texts;
    for (const int64_t length : {333, 50, 97, 7, 96, 201, 30})
      texts[cat("document ", texts.size())] = some_text(length, static_cast<uint64_t>(length));
    // Every rank has a copy of its own: the same bytes.
    write_dataset(folder_ / "set", texts, *make_tokenizer("byte", "", ""), 1000000);
    split_ = std::make_unique<Split>(folder_ / "set");
    config_.vocab_size = split_->vocab_size();
    dynamic_.config.rule = "sgd";
    dynamic_.config.learning_rate = 0.05;
    dynamic_.config.segment = 7;
    options_.reading.context = 24;
    options_.reading.stride = 10;
    options_.batch = 2;
    options_.keep_tokens = true;
  }

  EvalResult run(EvalMode mode, Communicator& group) {
    LanguageModel model(config_, at::kCPU, at::kFloat, 2);
    return Evaluator(model, *split_, options_, group).run(mode, dynamic_);
  }
  void expect_equal_to_one_rank(EvalMode mode) {
    const auto alone = make_local_communicator(), all = make_world_communicator(60);
    const EvalResult one = run(mode, *alone), shared = run(mode, *all);
    EXPECT_EQ(one.nats, shared.nats) << name_of(mode) << ", bit for bit, on every rank";
    EXPECT_EQ(one.flops, shared.flops);
    if (world().rank == 0) {
      EXPECT_EQ(one.scored.nats, shared.scored.nats);
      EXPECT_EQ(one.scored.token, shared.scored.token);
    } else {
      EXPECT_TRUE(shared.scored.nats.empty());
    }
    EXPECT_GE(shared.rank_seconds, shared.seconds);
  }

  TemporaryFolder folder_;
  std::unique_ptr<Split> split_;
  ModelConfig config_ = small_model_config();
  EvalOptions options_;
  DynamicSetup dynamic_;
};

TEST_F(SharedEvaluation, EqualsOneRankInEveryMode) {
  for (const EvalMode mode : {EvalMode::kSlow, EvalMode::kFast, EvalMode::kCarried, EvalMode::kDynamic,
                              EvalMode::kFastDynamic, EvalMode::kCarriedDynamic})
    expect_equal_to_one_rank(mode);
}

TEST_F(SharedEvaluation, EqualsOneRankOverStreams) {
  options_.carry = parse_carry("stream");
  dynamic_.config.reset = "stream";
  for (const int64_t streams : {1, 3}) {
    options_.streams = streams;
    for (const EvalMode mode : {EvalMode::kCarried, EvalMode::kDynamic, EvalMode::kCarriedDynamic})
      expect_equal_to_one_rank(mode);
  }
}

TEST_F(SharedEvaluation, EqualsOneRankWithAStateOfSoManyTokens) {
  for (const int64_t window : {0, 8}) {
    config_.window = window;
    for (const char* carry : {"24", "48", "stream:48"}) {
      options_.carry = parse_carry(carry);
      for (const EvalMode mode : {EvalMode::kCarried, EvalMode::kCarriedDynamic})
        expect_equal_to_one_rank(mode);
    }
  }
}

}  // namespace
}  // namespace fwl
