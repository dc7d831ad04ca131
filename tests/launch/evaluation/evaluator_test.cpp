#include "launch/evaluation/evaluator.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/base/error.h"
#include "launch/evaluation/turns.h"
#include "launch/evaluation/untrained.h"
#include "tests/data/tiny_dataset.h"
#include "tests/support/small_model.h"
#include "tests/support/temporary_folder.h"

namespace fwl {
namespace {

constexpr EvalMode kAllModes[] = {EvalMode::kSlow,          EvalMode::kSlowCarried, EvalMode::kFast,
                                  EvalMode::kCarried,       EvalMode::kDynamic,     EvalMode::kFastDynamic,
                                  EvalMode::kCarriedDynamic};

class EvaluatorTest : public testing::Test {
 protected:
  void SetUp() override {
    write({{"a", some_text(333, 1)},
           {"b", some_text(50, 2)},
           {"c", some_text(97, 3)},
           {"d", some_text(7, 4)},
           {"e", some_text(96, 5)}});
    dynamic_.config.rule = "sgd";
    dynamic_.config.learning_rate = 0.05;
    dynamic_.config.segment = 7;
  }

  void write(const Texts& texts) {
    split_.reset();
    write_dataset(folder_ / "set", texts, *make_tokenizer("byte", "", ""), 1000000);
    split_ = std::make_unique<Split>(folder_ / "set");
    config_.vocab_size = split_->vocab_size();
  }

  EvalOptions reading(int64_t context, int64_t stride, int64_t batch = 8) const {
    EvalOptions options;
    options.reading.context = context;
    options.reading.stride = stride;
    options.batch = batch;
    options.keep_tokens = true;
    return options;
  }

  EvalResult run(EvalMode mode, const EvalOptions& options) {
    LanguageModel model(config_, at::kCPU, at::kDouble, 2);
    return run(model, mode, options);
  }
  EvalResult run(LanguageModel& model, EvalMode mode, const EvalOptions& options) {
    const auto alone = make_local_communicator();
    return Evaluator(model, *split_, options, *alone).run(mode, dynamic_);
  }
  double nats(EvalMode mode, const EvalOptions& options) { return run(mode, options).nats_per_token(); }

  TemporaryFolder folder_;
  std::unique_ptr<Split> split_;
  ModelConfig config_ = small_model_config();
  DynamicSetup dynamic_;
};

// Largest difference of two runs' tokens, which must be the same ones.
double largest_difference(const EvalResult& a, const EvalResult& b) {
  EXPECT_EQ(a.scored.position, b.scored.position);
  double largest = 0;
  for (size_t i = 0; i < a.scored.nats.size(); ++i)
    largest = std::max(largest, std::abs(static_cast<double>(a.scored.nats[i]) - b.scored.nats[i]));
  return largest;
}

TEST_F(EvaluatorTest, CarriedWindowsEqualOneLongPassOverEveryDocument) {
  for (const double decay : {0.97, 1.0}) {
    config_.fast_weight.decay_init = decay;
    const double whole = nats(EvalMode::kFast, reading(1000, 0, 1));
    for (const int64_t context : {16, 24, 50}) {
      for (const int64_t batch : {1, 2, 8})
        EXPECT_NEAR(nats(EvalMode::kCarried, reading(context, 0, batch)), whole, 1e-10)
            << context << " x " << batch;
    }
    EXPECT_NEAR(nats(EvalMode::kCarried, reading(24, 5)), whole, 1e-10) << "nothing is read twice";
    EXPECT_GT(std::abs(nats(EvalMode::kFast, reading(24, 0)) - whole), 1e-4)
        << "windows that start from zero differ";
  }
}

// As many as the context, which is no length that kernels like.
TEST_F(EvaluatorTest, PaddingNeedsNoPositionThatTheModelLacks) {
  config_.positions = "learned";
  config_.context = 21;
  config_.window = 0;
  for (const EvalMode mode : {EvalMode::kSlow, EvalMode::kFast, EvalMode::kCarried}) {
    const EvalResult together = run(mode, reading(21, 0));
    EXPECT_LT(largest_difference(together, run(mode, reading(21, 0, 1))), 1e-6);
  }
}

// Modes that take turns leave each other the trained weights: the same numbers, bit for bit, as one after the
// other.
TEST_F(EvaluatorTest, TurnsChangeNoResult) {
  LanguageModel model(config_, at::kCPU, at::kDouble, 2);
  const auto alone = make_local_communicator();
  std::vector<std::unique_ptr<Evaluator>> evaluators;
  std::vector<Evaluator*> turns;
  for (const EvalMode mode : kAllModes) {
    evaluators.push_back(std::make_unique<Evaluator>(model, *split_, reading(24, 7, 2), *alone));
    evaluators.back()->begin(mode, dynamic_);
    turns.push_back(evaluators.back().get());
  }
  read_in_turns(turns, *alone);
  for (size_t i = 0; i < turns.size(); ++i) {
    const EvalResult together = turns[i]->finish(), apart = run(model, kAllModes[i], reading(24, 7, 2));
    EXPECT_EQ(together.nats, apart.nats) << name_of(kAllModes[i]);
    EXPECT_EQ(together.flops, apart.flops);
    EXPECT_GT(together.turns.size(), 1u);
  }
}

TEST_F(EvaluatorTest, WhatReadsBeyondLearnedPositionsIsRefusedFirst) {
  config_.positions = "learned";
  config_.context = 24;
  const auto check = [&](EvalMode mode, int64_t context, const Carry& carry) {
    ReadingOptions options;
    options.context = context;
    check_positions(config_, ReadingPlan(*split_, options), mode, carry, dynamic_.config);
  };
  for (const int64_t window : {0, 8}) {
    config_.window = window;
    for (const EvalMode mode : {EvalMode::kSlow, EvalMode::kFast, EvalMode::kDynamic})
      EXPECT_NO_THROW(check(mode, 24, {})) << name_of(mode);
    EXPECT_THROW(check(EvalMode::kSlow, 25, {}), ConfigError);
  }
  EXPECT_THROW(check(EvalMode::kCarried, 24, {}), ConfigError) << "a document of 333 tokens goes on";
  config_.window = 0;
  EXPECT_NO_THROW(check(EvalMode::kCarried, 24, {})) << "windows stand alone";
}

TEST_F(EvaluatorTest, ACarriedWindowOfAttentionEqualsOneLongStaticPass) {
  const EvalResult whole = run(EvalMode::kSlow, reading(1000, 0, 1));
  for (const int64_t batch : {1, 2, 8})
    EXPECT_LT(largest_difference(run(EvalMode::kSlowCarried, reading(24, 0, batch)), whole), 1e-6) << batch;
  EXPECT_GT(largest_difference(run(EvalMode::kSlow, reading(24, 0)), whole), 1e-4);
}

TEST_F(EvaluatorTest, CarryingTheWholeStreamCrossesDocuments) {
  EvalOptions stream = reading(24, 0, 1);
  stream.carry = parse_carry("stream");
  const double whole = nats(EvalMode::kCarried, stream);
  EXPECT_GT(std::abs(nats(EvalMode::kCarried, reading(24, 0, 1)) - whole), 1e-4);
  stream.reading.context = 50;
  EXPECT_NEAR(nats(EvalMode::kCarried, stream), whole, 1e-10) << "the window's length does not matter";
  stream.streams = 3;
  EXPECT_GT(std::abs(nats(EvalMode::kCarried, stream) - whole), 1e-4) << "each stream starts from zero";
}

// A body without attention: nothing but the fast weights crosses windows.
TEST_F(EvaluatorTest, CarryingNTokensEqualsWindowsOfNTokens) {
  config_.layers = 0;
  for (const int64_t window : {0, 8}) {
    config_.window = window;
    for (const int64_t tokens : {24, 48, 96}) {
      for (const int64_t batch : {1, 3}) {
        EvalOptions carried = reading(24, 0, batch);
        carried.carry.tokens = tokens;
        EXPECT_LT(
            largest_difference(run(EvalMode::kCarried, carried), run(EvalMode::kFast, reading(tokens, 0))),
            1e-6)
            << tokens << " tokens, " << batch << " rows, attention over " << window;
      }
    }
  }
}

TEST_F(EvaluatorTest, ForgettingTheFastWeightsKeepsWhatAttentionRemembers) {
  config_.layers = 1;
  config_.window = 8;
  EvalOptions options = reading(24, 0, 2);
  options.carry.tokens = 24;
  LanguageModel model(config_, at::kCPU, at::kDouble, 2);
  const EvalResult once = run(model, EvalMode::kCarried, options),
                   fast = run(model, EvalMode::kFast, options);
  const EvalResult slow = run(model, EvalMode::kSlow, reading(600, 0));
  // The first token of a document's second window: nothing learned, attention as in one long pass.
  EXPECT_NEAR(once.scored.nats[24], slow.scored.nats[24], 1e-6);
  EXPECT_GT(std::abs(fast.scored.nats[24] - slow.scored.nats[24]), 1e-4);
  dynamic_.config.learning_rate = 0;
  EXPECT_LT(largest_difference(run(model, EvalMode::kCarriedDynamic, options), once), 1e-6);
}

TEST_F(EvaluatorTest, CarryingNTokensOfFullAttentionStandsBetweenWindowsAndDocuments) {
  config_.window = 0;
  EvalOptions options = reading(24, 0, 2);
  options.carry.tokens = 24;
  EXPECT_EQ(largest_difference(run(EvalMode::kCarried, options), run(EvalMode::kFast, options)), 0)
      << "one window is what fast carries";
  options.carry.tokens = 480;
  EXPECT_LT(largest_difference(run(EvalMode::kCarried, options), run(EvalMode::kCarried, reading(24, 0, 2))),
            1e-9)
      << "longer than every document";
  for (const int64_t stride : {24, 7}) {
    options.reading.stride = stride;
    for (const char* carry : {"48", "stream:48"}) {
      options.carry = parse_carry(carry);
      const EvalResult some = run(EvalMode::kCarried, options);
      EXPECT_EQ(some.scored.nats.size(), 583u);
      EXPECT_GT(largest_difference(some, run(EvalMode::kFast, options)), 1e-4);
      dynamic_.config.learning_rate = 0;
      EXPECT_LT(largest_difference(run(EvalMode::kCarriedDynamic, options), some), 1e-6);
    }
  }
}

TEST_F(EvaluatorTest, AStreamIsCarriedOverDocumentsUntilItsTokensAreSpent) {
  config_.layers = 0;
  EvalOptions options = reading(24, 0);
  options.carry = parse_carry("stream:600");
  EvalOptions whole = options;
  whole.carry = parse_carry("stream");
  EXPECT_LT(largest_difference(run(EvalMode::kCarried, options), run(EvalMode::kCarried, whole)), 1e-9);
  options.carry = parse_carry("stream:384");
  const EvalResult part = run(EvalMode::kCarried, options), all = run(EvalMode::kCarried, whole);
  // Documents of 333, 50 and 97 tokens: the state starts again within 24 tokens before the 384th.
  for (size_t i = 0; i < 360; ++i) ASSERT_NEAR(part.scored.nats[i], all.scored.nats[i], 1e-6);
  EXPECT_GT(std::abs(part.scored.nats[400] - all.scored.nats[400]), 1e-6);
}

TEST_F(EvaluatorTest, ACarryThatIsNoMultipleOfTheContextIsRefused) {
  EvalOptions options = reading(24, 0);
  options.carry.tokens = 50;
  EXPECT_THROW(run(EvalMode::kCarried, options), ConfigError);
  for (const char* text : {"", "two", "0", "-24", "24k", "stream:", "stream:x", "document:24"})
    EXPECT_THROW(parse_carry(text), ConfigError) << text;
  for (const char* text : {"document", "stream", "2048", "stream:2048"})
    EXPECT_EQ(to_string(parse_carry(text)), text);
  EXPECT_EQ(parse_carry_list("24,stream:24,document").size(), 3u);
  EXPECT_THROW(parse_carry_list("24,24"), ConfigError);
  EXPECT_THROW(parse_carry_list(""), ConfigError);
}

TEST_F(EvaluatorTest, EveryModeKeepsEveryTokenOnceInReadingOrder) {
  for (const EvalMode mode : kAllModes) {
    for (const EvalOptions& options : {reading(24, 7)}) {
      const EvalResult result = run(mode, options);
      EXPECT_EQ(result.token_count(), 333 + 50 + 97 + 7 + 96);
      ASSERT_EQ(result.scored.nats.size(), 583u);
      size_t i = 0;
      for (int32_t d = 0; d < 5; ++d) {
        const Document document = split_->document(d);
        std::vector<int64_t> tokens(static_cast<size_t>(document.num_tokens));
        split_->read_tokens(document.first_token, document.num_tokens, tokens.data());
        double sum = 0;
        for (int64_t p = 1; p < document.num_tokens; ++p, ++i) {
          EXPECT_EQ(result.scored.document[i], d);
          EXPECT_EQ(result.scored.position[i], p);
          EXPECT_EQ(result.scored.token[i], tokens[static_cast<size_t>(p)]);
          EXPECT_GT(result.scored.nats[i], 0) << "no token is left out";
          sum += result.scored.nats[i];
        }
        EXPECT_NEAR(result.nats[static_cast<size_t>(d)], sum, 1e-4 * sum) << name_of(mode);
      }
    }
  }
}

// Sliding by one token scores every token with a full window before it: the last prediction of a pass over
// those inputs alone.
TEST_F(EvaluatorTest, SlidingWindowsScoreWithTheInputsBefore) {
  config_.window = 0;
  LanguageModel model(config_, at::kCPU, at::kDouble, 2);
  const EvalResult result = run(model, EvalMode::kFast, reading(16, 1));
  for (const int64_t label : {5, 16, 17, 40, 333}) {
    const int64_t inputs = std::min<int64_t>(16, label), first = label - inputs;
    Tensor tokens = at::empty({1, inputs + 1}, at::kLong);
    split_->read_tokens(first, inputs + 1, tokens.mutable_data_ptr<int64_t>());
    const TokenBatch batch{
        tokens.narrow(1, 0, inputs), tokens.narrow(1, 1, inputs), at::ones({1, inputs}, at::kDouble), {}};
    EXPECT_NEAR(result.scored.nats[static_cast<size_t>(label - 1)],
                model.token_losses(batch, Pass::kFast)[0][inputs - 1].item<double>(), 1e-6);
  }
}

TEST_F(EvaluatorTest, AWindowThatTheModelReachesOverMakesTheStrideIrrelevant) {
  config_.layers = 1;  // reach: one window of 8
  for (const EvalMode mode : {EvalMode::kSlow, EvalMode::kCarried})
    EXPECT_LT(largest_difference(run(mode, reading(24, 10)), run(mode, reading(600, 0))), 1e-6)
        << name_of(mode);
  EXPECT_GT(largest_difference(run(EvalMode::kSlow, reading(24, 0)), run(EvalMode::kSlow, reading(600, 0))),
            1e-3)
      << "without an overlap the inputs before are missing";
}

// With full attention the state goes on while attention sees a window alone: learning a token twice or
// decaying the state by the overlap would change the result of a body without attention.
TEST_F(EvaluatorTest, AnOverlapIsNotLearnedTwice) {
  config_.window = 0;
  config_.layers = 0;
  const EvalResult whole = run(EvalMode::kFast, reading(600, 0));
  for (const EvalOptions& options : {reading(24, 0), reading(24, 7), reading(24, 1)})
    EXPECT_LT(largest_difference(run(EvalMode::kCarried, options), whole), 1e-6);
  dynamic_.config.learning_rate = 0;
  for (const EvalOptions& options : {reading(24, 0), reading(24, 7)})
    EXPECT_LT(largest_difference(run(EvalMode::kCarriedDynamic, options), whole), 1e-6);
}

TEST_F(EvaluatorTest, DynamicEvaluationWithoutLearningIsTheModeBelowIt) {
  dynamic_.config.learning_rate = 0;
  for (const int64_t window : {0, 8}) {
    config_.window = window;
    for (const EvalOptions& options : {reading(24, 10)}) {
      EXPECT_LT(largest_difference(run(EvalMode::kDynamic, options), run(EvalMode::kSlow, options)), 1e-6);
      EXPECT_LT(largest_difference(run(EvalMode::kFastDynamic, options), run(EvalMode::kFast, options)),
                1e-6);
      EXPECT_LT(largest_difference(run(EvalMode::kCarriedDynamic, options), run(EvalMode::kCarried, options)),
                1e-6);
    }
  }
}

TEST_F(EvaluatorTest, LearningSlowWeightsOnTopOfFastOnesChangesWhatFollows) {
  for (const auto& [adapting, below] : {std::pair{EvalMode::kFastDynamic, EvalMode::kFast},
                                        std::pair{EvalMode::kCarriedDynamic, EvalMode::kCarried}}) {
    const EvalResult a = run(adapting, reading(24, 0)), b = run(below, reading(24, 0));
    for (size_t i = 0; i < 7; ++i)
      EXPECT_NEAR(a.scored.nats[i], b.scored.nats[i], 1e-6) << "the first segment";
    EXPECT_GT(std::abs(a.scored.nats[20] - b.scored.nats[20]), 1e-5);
  }
}

// Documents that are alike but for one byte, which takes all 256 values. A prediction that has not seen the
// token gives probabilities that sum to 1 over its values; one that learned from it before scoring it does
// not.
TEST_F(EvaluatorTest, ATokenIsScoredBeforeAnyUpdateThatUsesIt) {
  constexpr int64_t kValues = 12;
  config_.unembedding_bias = true;
  for (const int64_t place : {1, 8, 9, 14, 16}) {
    Texts texts;
    for (int64_t value = 0; value < kValues; ++value) {
      std::string text = some_text(17, 9);
      for (char& c : text) c = static_cast<char>(c % kValues);
      text[static_cast<size_t>(place - 1)] = static_cast<char>(value);
      texts[cat("document ", 1000 + value)] = text;
    }
    write(texts);
    for (const EvalMode mode : kAllModes) {
      LanguageModel model(config_, at::kCPU, at::kDouble, 2);
      {
        const at::NoGradGuard no_grad;
        Tensor bias = model.parameters()["unembedding.bias"];
        bias.narrow(0, kValues, bias.size(0) - kValues).fill_(-1e4);
      }
      const EvalResult result = run(model, mode, reading(8, 4));
      double sum = 0, before = result.scored.nats[0];
      for (size_t i = 0; i < result.scored.nats.size(); ++i) {
        if (result.scored.position[i] == place) sum += std::exp(-static_cast<double>(result.scored.nats[i]));
        if (place > 1 && result.scored.position[i] == 1) {
          EXPECT_NEAR(result.scored.nats[i], before, 1e-6) << "a later token moved an earlier score";
        }
      }
      EXPECT_NEAR(sum, 1, 1e-5) << name_of(mode) << " at " << place;
    }
  }
}

TEST_F(EvaluatorTest, UntrainedFastWeightsAddOnlyTheLayersUpdates) {
  config_.fast_weight.update = "none";
  LanguageModel control(config_, at::kCPU, at::kDouble, 2);
  const EvalResult slow = run(control, EvalMode::kSlow, reading(24, 0));
  const auto model = with_fast_weights(control, at::kDouble);
  set_step_size(*model, 1e-9);
  EXPECT_LT(largest_difference(run(*model, EvalMode::kFastUntrained, reading(24, 0)), slow), 1e-6);
  set_step_size(*model, 50);
  const EvalResult fast = run(*model, EvalMode::kFastUntrained, reading(24, 0));
  EXPECT_NEAR(fast.scored.nats[0], slow.scored.nats[0], 1e-6) << "nothing is learned before the first token";
  EXPECT_GT(largest_difference(fast, slow), 1e-3);
  EXPECT_LT(largest_difference(run(*model, EvalMode::kSlow, reading(24, 0)), slow), 1e-6);
  EXPECT_THROW(with_fast_weights(*model, at::kDouble), ConfigError);
  EXPECT_THROW(run(control, EvalMode::kFast, reading(24, 0)), ConfigError);
}

TEST_F(EvaluatorTest, AnInnerThresholdSaysWhatIsBelowIt) {
  LanguageModel model(config_, at::kCPU, at::kDouble, 2);
  for (const EvalMode mode : {EvalMode::kFast, EvalMode::kCarried}) {
    model.set_inner_approximation({});
    const EvalResult exact = run(model, mode, reading(24, 0));
    EXPECT_TRUE(exact.inner.is_null());
    model.set_inner_approximation({1e-12, false});
    const EvalResult all = run(model, mode, reading(24, 0));
    EXPECT_LT(largest_difference(all, exact), 1e-6);
    EXPECT_EQ(all.inner["kept"], config_.vocab_size);
    EXPECT_NEAR(all.inner["rest"].get<double>(), 0, 1e-9);
    EXPECT_NEAR(all.flops / exact.flops, 1, 1e-12);
    model.set_inner_approximation({1.0 / static_cast<double>(config_.vocab_size), false});
    const EvalResult some = run(model, mode, reading(24, 0));
    EXPECT_GT(largest_difference(some, exact), 1e-6);
    EXPECT_GT(some.inner["rest"], 0);
    EXPECT_LT(some.inner["kept"], config_.vocab_size);
    EXPECT_LT(some.flops, exact.flops);
    const EvalResult alone = run(model, mode, reading(24, 0, 1));
    EXPECT_NEAR(some.inner["kept"].get<double>(), alone.inner["kept"].get<double>(), 1e-9)
        << "padding does not count";
  }
  EXPECT_TRUE(run(model, EvalMode::kSlow, reading(24, 0)).inner.is_null());
  EXPECT_THROW(run(model, EvalMode::kFastDynamic, reading(24, 0)), ConfigError);
}

TEST_F(EvaluatorTest, InnerLogitsOfEightBitsChangeLittleAndOnlyFastWeights) {
  LanguageModel model(config_, at::kCPU, at::kDouble, 2);
  for (const EvalMode mode : {EvalMode::kSlow, EvalMode::kFast, EvalMode::kCarried}) {
    model.set_inner_approximation({});
    const EvalResult exact = run(model, mode, reading(24, 0));
    model.set_inner_approximation({0, true});
    const EvalResult rounded = run(model, mode, reading(24, 0));
    EXPECT_NEAR(rounded.flops / exact.flops, 1, 1e-12);
    if (mode == EvalMode::kSlow) {
      EXPECT_EQ(largest_difference(rounded, exact), 0);
      EXPECT_TRUE(rounded.inner.is_null());
      continue;
    }
    EXPECT_GT(largest_difference(rounded, exact), 1e-7);
    const double learned = largest_difference(exact, run(model, EvalMode::kSlow, reading(24, 0)));
    EXPECT_LT(largest_difference(rounded, exact), 0.1 * learned);
    EXPECT_EQ(rounded.inner, (nlohmann::json{{"threshold", 0.0}, {"logits", "fp8"}}));
  }
  EXPECT_THROW(run(model, EvalMode::kCarriedDynamic, reading(24, 0)), ConfigError);
}

TEST_F(EvaluatorTest, AnEvaluationLeavesTheWeightsAsTheyWere) {
  LanguageModel model(config_, at::kCPU, at::kDouble, 2);
  const Tensor before = model.parameters().values().clone();
  for (const EvalMode mode : kAllModes) run(model, mode, reading(24, 10));
  EXPECT_TRUE(at::equal(model.parameters().values(), before));
}

TEST_F(EvaluatorTest, FlopsGrowWithWhatAModeComputes) {
  const auto flops = [&](EvalMode mode, const EvalOptions& options) { return run(mode, options).flops; };
  const double slow = flops(EvalMode::kSlow, reading(24, 0)), fast = flops(EvalMode::kFast, reading(24, 0));
  EXPECT_GT(fast, 1.2 * slow);
  EXPECT_LT(fast, 3 * slow);
  EXPECT_NEAR(flops(EvalMode::kDynamic, reading(24, 0)) / slow, 3, 0.05);
  EXPECT_GT(flops(EvalMode::kFastDynamic, reading(24, 0)), 2.9 * fast);
  EXPECT_GT(flops(EvalMode::kSlow, reading(24, 6)), 1.5 * slow) << "inputs are read again";
  const auto layer = [&](EvalMode with, EvalMode without, const EvalOptions& options) {
    return flops(with, options) - flops(without, options);
  };
  config_.fast_weight.chunk = 64;  // windows of one chunk need no state of their own
  EvalOptions pieces = reading(24, 0, 1);
  pieces.carry.tokens = 24;
  EXPECT_GT(layer(EvalMode::kCarried, EvalMode::kSlowCarried, pieces),
            1.01 * layer(EvalMode::kFast, EvalMode::kSlow, pieces))
      << "a state for the next window is written";
  EXPECT_NEAR(flops(EvalMode::kCarried, reading(24, 0, 64)) / flops(EvalMode::kFast, reading(64 * 24, 0)), 1,
              1e-12)
      << "documents of one window write none";
}

}  // namespace
}  // namespace fwl
