#include "launch/plan/plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "core/base/error.h"
#include "core/model/language_model.h"
#include "tests/support/small_model.h"

namespace fwl {
namespace {

Machine h200() {
  return machine_for(find_gpu("h200"), h200_rates());
}

RunConfig gpt2() {
  RunConfig c = load_run_config(FWL_SOURCE_DIR "/launch/configs/gpt2-124m.yaml", {});
  return c;
}

TEST(Plan, ParametersAreThoseOfTheModel) {
  ModelConfig c = small_model_config();
  const auto expect_counted = [&] {
    EXPECT_EQ(count_parameters(c), LanguageModel(c, at::kCPU, at::kFloat, 1).parameters().count());
  };
  expect_counted();
  c.fast_weight.decay_heads = 4;
  expect_counted();
  c.fast_weight.fast_norm = true;
  expect_counted();
  c.fast_weight = small_model_config().fast_weight;
  for (const char* gate : {"input", "label", "both"}) {
    c.fast_weight.write_gate = gate;
    expect_counted();
  }
  for (const int64_t heads : {1, 4}) {
    c.fast_weight.inner_steps = 3;
    c.fast_weight.decay_heads = heads;
    expect_counted();
  }
  c.fast_weight.inner_steps = c.fast_weight.decay_heads = 1;
  c.norm = "layer";
  c.fast_weight.query_gain = c.fast_weight.fast_norm = c.fast_weight.learned_start = true;
  expect_counted();
  c.feed_forward = "swiglu";
  c.projection_biases = c.unembedding_bias = true;
  c.tied_embedding = false;
  expect_counted();
  c.positions = "learned";
  c.fast_weight.fast_layers = "second";
  c.fast_weight.step_size = "scalar";
  expect_counted();
  for (const char* update : {"none", "absent"}) {
    c.fast_weight.update = update;
    expect_counted();
  }
}

TEST(Plan, TheBestLayoutIsTheFastestThatFitsAndSaysWhy) {
  const Plan plan = make_plan(gpt2(), 8, h200());
  ASSERT_GE(plan.others.size(), 4u);  // 8x1, 4x2, 2x4, 1x8
  for (const Prediction& p : plan.others) {
    EXPECT_EQ(p.shape.ranks(), 8);
    if (!p.fits) continue;
    EXPECT_LE(p.tokens_per_s, plan.best.tokens_per_s) << p.shape.to_string();
  }
  EXPECT_TRUE(plan.best.fits);
  EXPECT_NE(plan.reason.find("faster than"), std::string::npos) << plan.reason;
}

TEST(Plan, OneLongSequenceIsCutAndOneThatFitsNowhereIsRefused) {
  RunConfig c = gpt2();
  c.train.global_batch = 1;
  c.train.micro_batch = 0;
  c.model.context = 800000;
  EXPECT_THROW(make_plan(c, 1, h200()), ConfigError);
  EXPECT_EQ(make_plan(c, 4, h200()).best.shape.to_string(), "1x4");
  c.model.context = 100'000'000;
  EXPECT_THROW(make_plan(c, 8, h200()), ConfigError);
}

TEST(Plan, ABatchThatCannotBeCutIsRaisedAndThatIsSaid) {
  RunConfig c = gpt2();
  c.train.global_batch = 3;
  c.model.context = 1001;
  c.model.window = 0;
  c.train.micro_batch = 1;
  const Plan plan = make_plan(c, 64, h200());
  EXPECT_TRUE(plan.grown);
  EXPECT_EQ(plan.best.global_batch % 64, 0);
}

TEST(Plan, MemoryShrinksWithTheMicroBatchAndWithAShardedOptimizer) {
  RunConfig c = gpt2();
  const MemoryPlan wide = plan_memory(c, {4, 1}, 16), narrow = plan_memory(c, {4, 1}, 8);
  EXPECT_LT(narrow.activations, wide.activations);
  EXPECT_EQ(narrow.moments, wide.moments);
  c.parallel.shard_optimizer = true;
  EXPECT_DOUBLE_EQ(plan_memory(c, {4, 1}, 16).moments, wide.moments / 4);
  EXPECT_LT(plan_memory(c, {1, 4}, 16).activations, wide.activations / 3.9);
}

TEST(Plan, CurvesGoToTheAskedGpusAndNeverBeatOne) {
  const std::vector<ScalingPoint> curves = scaling_curves(gpt2(), 64, h200());
  int weak = 0;
  for (const ScalingPoint& s : curves) {
    EXPECT_GT(s.efficiency, 0) << s.kind << s.prediction.shape.to_string();
    EXPECT_TRUE(std::isfinite(s.prediction.tokens_per_s));
    if (s.kind != "weak") continue;
    ++weak;
    EXPECT_LE(s.efficiency, 1.0);
    EXPECT_EQ(s.prediction.global_batch, s.prediction.shape.ranks() * 16);
  }
  EXPECT_EQ(weak, 7);  // 1, 2, 4, ..., 64
}

TEST(Plan, ABatchHasAMostUsefulNumberOfGpus) {
  const std::vector<ScalingPoint> curves = scaling_curves(gpt2(), 1000, h200());
  const int useful = useful_gpus(curves);
  EXPECT_GE(useful, 8);
  EXPECT_LT(useful, 64);
  for (const ScalingPoint& s : curves) {
    const int gpus = s.prediction.shape.ranks();
    if (s.kind == "weak") {
      EXPECT_GT(s.efficiency, 0.5) << gpus;
    } else if (s.kind == "strong" && gpus > useful) {
      EXPECT_LT(s.efficiency, 0.5) << gpus;
    }
  }
  EXPECT_TRUE(std::any_of(curves.begin(), curves.end(), [](const ScalingPoint& s) {
    return s.kind == "weak" && s.prediction.shape.ranks() == 1000;
  })) << "the curve ends at the GPUs that were asked for";
}

TEST(Plan, TheStepAndItsPartsAddUp) {
  const Prediction p = predict(gpt2(), {2, 2}, h200());
  const StepTime& t = p.time;
  EXPECT_DOUBLE_EQ(t.total(), t.compute + t.host + t.exposed + t.contention + t.sequence + t.stragglers);
  EXPECT_GT(t.attention, 0);
  EXPECT_GT(t.state, 0);
  EXPECT_LE(t.exposed, t.gradients + t.attention + t.state);
  EXPECT_NEAR(p.mfu, p.flops / t.total() / (4 * 989e12), 1e-9);
}

TEST(Plan, UnknownGpusAreRefusedByName) {
  try {
    find_gpu("h9000");
    FAIL();
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find("a100, h100, h200, b200"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace fwl
