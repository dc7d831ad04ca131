#include "core/adapt/dynamic_evaluation.h"

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "tests/support/small_model.h"

namespace fwl {
namespace {

struct Trial {
  ModelConfig config = small_model_config();
  LanguageModel model;
  TokenBatch batch;
  DynamicEvaluationConfig dynamic;
  Trial()
      : config(control()),
        model(config, at::kCPU, at::kDouble, 5),
        batch(random_batch(config, 1, config.context, at::kDouble, 9)) {
    dynamic.rule = "sgd";
    dynamic.segment = 6;
  }
  static ModelConfig control() {
    ModelConfig c = small_model_config();
    c.fast_weight.update = "none";
    return c;
  }
};

double largest(const Tensor& difference) {
  return difference.abs().max().item<double>();
}

// As after an error of the device: the first message is the one that is to be told.
TEST(DynamicEvaluation, AnEndThatCannotRestoreDoesNotThrow) {
  LanguageModel model(Trial::control(), at::kCPU, at::kBFloat16, 5);
  DynamicEvaluationConfig dynamic;
  dynamic.rule = "sgd";
  try {
    const DynamicEvaluator evaluator(model, dynamic, {});
    model.parameters().release_values(1);  // the weights cannot be written any more
    throw std::runtime_error("the first error");
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "the first error");
  }
}

TEST(DynamicEvaluation, LearningRateZeroIsTheStaticPass) {
  Trial s;
  s.dynamic.learning_rate = 0;
  const Tensor expected = s.model.token_losses(s.batch, Pass::kSlow);
  EXPECT_LT(largest(DynamicEvaluator(s.model, s.dynamic, {}).score(s.batch) - expected), 1e-12);
}

TEST(DynamicEvaluation, ASegmentIsScoredBeforeItIsLearnedFrom) {
  Trial s;
  s.dynamic.learning_rate = 0.5;
  const Tensor expected = s.model.token_losses(s.batch, Pass::kSlow);
  const Tensor scored = DynamicEvaluator(s.model, s.dynamic, {}).score(s.batch);
  EXPECT_LT(largest((scored - expected).narrow(1, 0, 6)), 1e-12);
  EXPECT_GT(largest((scored - expected).narrow(1, 6, 6)), 1e-6);
  // Editing a later token moves no earlier score, bit for bit.
  TokenBatch edited = s.batch;
  edited.label_bt = s.batch.label_bt.clone();
  edited.label_bt[0][8] = (s.batch.label_bt[0][8].item<int64_t>() + 1) % s.config.vocab_size;
  const Tensor again = DynamicEvaluator(s.model, s.dynamic, {}).score(edited);
  EXPECT_TRUE(at::equal(again.narrow(1, 0, 8), scored.narrow(1, 0, 8)));
  EXPECT_FALSE(at::equal(again.narrow(1, 12, 6), scored.narrow(1, 12, 6)));
}

TEST(DynamicEvaluation, OneStepEqualsTheRuleWrittenOut) {
  for (const char* rule : {"sgd", "rms"}) {
    Trial s;
    s.dynamic.rule = rule;
    s.dynamic.segment = s.config.context;
    s.dynamic.learning_rate = 0.01;
    s.dynamic.decay = 0.1;
    const Tensor start = s.model.parameters().values().clone();
    GradientStatistics statistics(s.model);
    statistics.add(random_batch(s.config, 3, s.config.context, at::kDouble, 21));
    statistics.add(random_batch(s.config, 3, s.config.context, at::kDouble, 22));
    const Tensor mean_square = statistics.mean_square();
    EXPECT_GT(mean_square.max().item<double>(), 0);
    ContinuedSequence memory;
    s.model.segment_loss(s.batch, memory).total.div(s.config.context).backward();
    const Tensor gradient = s.model.parameters().gradients().clone();
    s.model.parameters().zero_gradients();
    {
      DynamicEvaluator dynamic(s.model, s.dynamic, mean_square);
      dynamic.score(s.batch);
      // At W = W0 the pull is felt after the step: W0 - rate g, then + pull (W0 - W).
      const Tensor root = mean_square.sqrt();
      const bool rms = std::string(rule) == "rms";
      const Tensor rate = rms ? s.dynamic.learning_rate / (root + s.dynamic.epsilon)
                              : at::full_like(start, s.dynamic.learning_rate);
      const Tensor pull =
          rms ? (root / root.mean() * s.dynamic.decay).clamp_max(1.0) : at::full_like(start, s.dynamic.decay);
      const Tensor expected = start - rate * gradient * (1 - pull);
      EXPECT_LT(largest(s.model.parameters().values() - expected), 1e-12) << rule;
      dynamic.reset();
      EXPECT_TRUE(at::equal(s.model.parameters().values(), start)) << rule;
      dynamic.score(s.batch);
    }
    EXPECT_TRUE(at::equal(s.model.parameters().values(), start)) << "the trained weights come back, " << rule;
  }
}

TEST(DynamicEvaluation, RmsWithoutStatisticsIsRefused) {
  Trial s;
  s.dynamic.rule = "rms";
  EXPECT_THROW(DynamicEvaluator(s.model, s.dynamic, {}), ConfigError);
}

}  // namespace
}  // namespace fwl
