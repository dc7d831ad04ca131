#include "launch/resume_check.h"

#include <gtest/gtest.h>

#include <functional>

#include "core/base/error.h"

namespace fwl {
namespace {

struct Case {
  RunConfig stored, now;
  DataIdentity data{11, "byte", ""};
  int64_t at_step = 0;

  Case() { stored.model.vocab_size = now.model.vocab_size = 256; }
  void check(ConfigChanges allowed) {
    CheckpointInfo info;
    info.path = "somewhere";
    info.config_yaml = to_yaml(fields_of(stored));
    info.tokenizer_kind = "byte";
    info.progress.samples = 8;
    info.progress.step = at_step;
    info.data.sequence_hash = 11;
    check_resume(info, now, data, allowed);
  }
  std::string refusal(ConfigChanges allowed) {
    try {
      check(allowed);
      return "";
    } catch (const ConfigError& error) {
      return error.what();
    }
  }
};

bool names(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST(ResumeCheck, TheSameConfigAndAnotherPlaceGoOn) {
  Case c;
  EXPECT_NO_THROW(c.check(ConfigChanges::kRefuse));
  c.now.run_dir = "elsewhere";
  c.now.data.path = "moved";
  c.now.train.device = "cpu";
  c.now.train.micro_batch = 1;
  c.now.checkpoints.keep = 9;
  c.now.parallel.data = 4;
  EXPECT_NO_THROW(c.check(ConfigChanges::kRefuse));
}

TEST(ResumeCheck, AnotherScheduleNeedsTheFlagAndIsListed) {
  Case c;
  c.now.train.steps = 2000;
  c.now.train.optimizer.beta2 = 0.99;
  c.now.train.log_every = 7;
  c.now.model.fast_weight.slow_loss_weight = 0.25;
  c.now.model.fast_weight.hessian_threshold = 0;
  const std::string text = c.refusal(ConfigChanges::kRefuse);
  EXPECT_TRUE(names(text, "train.steps: 1000 -> 2000 (needs --allow-changes)")) << text;
  EXPECT_TRUE(names(text, "train.optimizer.beta2: 0.95 -> 0.99")) << text;
  EXPECT_TRUE(names(text, "model.fast_weight.slow_loss_weight: "))
      << "of the loss, not of the function: " << text;
  EXPECT_TRUE(names(text, "model.fast_weight.hessian_threshold: 0.01 -> 0 (needs --allow-changes)"))
      << "of the loss's gradient: " << text;
  EXPECT_TRUE(names(text, "train.log_every: 10 -> 7\n")) << "harmless changes are listed too: " << text;
  EXPECT_NO_THROW(c.check(ConfigChanges::kAllow));
}

TEST(ResumeCheck, AnotherFunctionIsRefusedAlways) {
  for (const auto& change : std::vector<std::function<void(Case&)>>{
           [](Case& c) { c.now.model.width = 32; }, [](Case& c) { c.now.model.window = 16; },
           [](Case& c) { c.now.model.fast_weight.second_order = false; },
           [](Case& c) { c.now.train.dtype = "fp64"; },
           [](Case& c) { c.data.tokenizer_bytes = "another"; }}) {
    Case c;
    change(c);
    EXPECT_TRUE(names(c.refusal(ConfigChanges::kAllow), "refused")) << c.refusal(ConfigChanges::kAllow);
  }
}

TEST(ResumeCheck, OtherDataOfTheSameTokenizerNeedsTheFlag) {
  Case c;
  c.data.sequence_hash = 12;
  EXPECT_TRUE(names(c.refusal(ConfigChanges::kRefuse), "data: other tokens"));
  EXPECT_NO_THROW(c.check(ConfigChanges::kAllow));
  c.now.train.seed = 2;
  EXPECT_FALSE(names(c.refusal(ConfigChanges::kRefuse), "data: other tokens")) << "explained by the seed";
  EXPECT_TRUE(names(c.refusal(ConfigChanges::kRefuse), "train.seed: 1 -> 2"));
}

// The bound of a trained decay follows from its start by itself: it must not move with it.
TEST(ResumeCheck, TheDecaysOfARunStayWhatTheyWere) {
  Case c;
  const double bound = largest_decay(c.stored.model);
  for (const double start : {0.99, 0.9999}) {
    c.now.model.fast_weight.decay_init = start;
    settle_decays(to_yaml(fields_of(c.stored)), &c.now);
    EXPECT_EQ(largest_decay(c.now.model), bound) << start;
    EXPECT_NO_THROW(validate(c.now.model)) << start;
    EXPECT_NO_THROW(c.check(ConfigChanges::kRefuse)) << start;
  }
  RunConfig fresh;
  settle_decays("", &fresh);
  EXPECT_EQ(fresh.model.fast_weight.decay_max, bound) << "stored as a number";
}

TEST(ResumeCheck, AnotherBoundOfTheDecaysIsAnotherFunction) {
  Case c;
  c.now.model.fast_weight.decay_max = 0.9995;
  EXPECT_TRUE(names(c.refusal(ConfigChanges::kAllow), "model.fast_weight.decay_max"));
  c.now = c.stored;
  c.now.model.fast_weight.decay_init = 1;
  EXPECT_TRUE(
      names(c.refusal(ConfigChanges::kAllow), "decay_init: 0.998 -> 1 (changes the function: refused)"));
}

TEST(ResumeCheck, AMovedLearningRateIsSaidWithBothNumbers) {
  Case c;
  c.at_step = 500;
  c.now.train.steps = 2000;
  const std::string text = c.refusal(ConfigChanges::kRefuse);
  EXPECT_TRUE(names(text, "The learning rate of the next step, 501, moves from 0.000")) << text;
  c.now = c.stored;
  c.now.train.optimizer.beta2 = 0.9;
  EXPECT_FALSE(names(c.refusal(ConfigChanges::kRefuse), "moves from"));
}

TEST(ResumeCheck, PrecisionOfTheProductsNeedsTheFlag) {
  Case c;
  c.now.train.dtype = "bf16";
  EXPECT_THROW(c.check(ConfigChanges::kRefuse), ConfigError);
  EXPECT_NO_THROW(c.check(ConfigChanges::kAllow));
}

}  // namespace
}  // namespace fwl
