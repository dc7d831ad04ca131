#include "launch/run_config.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "core/base/error.h"

namespace fwl {
namespace {

TEST(RunConfig, EveryShippedConfigLoadsAndSurvivesARoundTrip) {
  int count = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::string(FWL_SOURCE_DIR) + "/launch/configs")) {
    RunConfig config = load_run_config(entry.path().string(), {"data.path=x", "train.seed=3"});
    EXPECT_EQ(config.train.seed, 3);
    RunConfig again = parse_run_config(to_yaml(fields_of(config)), "round trip");
    EXPECT_TRUE(differences(fields_of(config), fields_of(again)).empty()) << entry.path();
    ++count;
  }
  EXPECT_GE(count, 4);
}

TEST(RunConfig, StoredConfigsFromBeforeTheBoundOfDecaysHaveNone) {
  RunConfig config;
  EXPECT_EQ(parse_run_config("model: {context: 64}", "old").model.fast_weight.decay_max, 1);
  EXPECT_EQ(parse_run_config(to_yaml(fields_of(config)), "new").model.fast_weight.decay_max,
            config.model.fast_weight.decay_max);
  EXPECT_EQ(largest_decay(parse_run_config("model: {context: 64}", "old").model), 1);
}

TEST(RunConfig, TheKeysThatOthersUseExist) {
  RunConfig config;
  const FieldList list = fields_of(config);
  for (const char* key : {"run.dir",
                          "data.path",
                          "model.layers",
                          "model.width",
                          "model.heads",
                          "model.context",
                          "model.window",
                          "model.vocab_size",
                          "model.fast_weight.update",
                          "model.fast_weight.width",
                          "model.fast_weight.chunk",
                          "model.fast_weight.residual",
                          "model.fast_weight.input_norm",
                          "model.fast_weight.fast_biases",
                          "model.fast_weight.fast_norm",
                          "model.fast_weight.fast_layers",
                          "model.fast_weight.step_size",
                          "model.fast_weight.step_size_init",
                          "model.fast_weight.decay_init",
                          "model.fast_weight.second_order",
                          "train.steps",
                          "train.global_batch",
                          "train.micro_batch",
                          "train.seed",
                          "train.device",
                          "train.dtype",
                          "train.learning_rate",
                          "train.resume",
                          "train.save_every",
                          "train.log_every",
                          "train.max_seconds",
                          "checkpoints.keep",
                          "checkpoints.keep_every",
                          "parallel.shard_optimizer",
                          "parallel.data",
                          "parallel.sequence",
                          "parallel.timeout_s"}) {
    const auto& fields = list.fields();
    EXPECT_TRUE(std::any_of(fields.begin(), fields.end(), [&](const Field& f) { return f.path == key; }))
        << key;
  }
}

TEST(RunConfig, ConfigsFromBeforeAKeyMeanWhatWasThen) {
  const FastWeightConfig old = parse_run_config("model: {layers: 3}", "a checkpoint").model.fast_weight;
  EXPECT_EQ(old.decay_max, 1);
  EXPECT_EQ(old.fast_layers, "both");
  EXPECT_EQ(old.hessian_threshold, 0);
  EXPECT_EQ(old.step_size_init, 0.25);
  EXPECT_EQ(old.key_norm, "none");
  EXPECT_EQ(old.write_gate, "none");
  const FastWeightConfig said =
      parse_run_config("model: {fast_weight: {key_norm: l2, write_gate: label}}", "x").model.fast_weight;
  EXPECT_EQ(said.key_norm, "l2");
  EXPECT_EQ(said.write_gate, "label");
}

TEST(RunConfig, LayoutsThatDoNotFitAreRefused) {
  RunConfig config;
  config.data.path = "x";
  config.train.global_batch = 8;
  EXPECT_NO_THROW(validate(config, 4));
  EXPECT_THROW(validate(config, 3), ConfigError);
  config.parallel.data = 2;
  EXPECT_THROW(validate(config, 4), ConfigError);
  config.data.path.clear();
  EXPECT_THROW(validate(config, 2), ConfigError);
}

}  // namespace
}  // namespace fwl
