#include "launch/run_config.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>

#include "core/base/error.h"
#include "launch/config_notes.h"
#include "tests/support/temporary_folder.h"

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

TEST(RunConfig, NoNumberMayBeInfiniteOrNone) {
  RunConfig config;
  const FieldList list = fields_of(config);
  int numbers = 0;
  for (const Field& field : list.fields()) {
    if (!std::holds_alternative<double*>(field.target)) continue;
    for (const char* value : {"inf", "-inf", "nan", "1e999"})
      EXPECT_THROW(apply_setting(list, field.path + "=" + value), ConfigError) << field.path;
    ++numbers;
  }
  EXPECT_GE(numbers, 15);
}

TEST(RunConfig, EndsOfRangesThatDivideByZeroAreOpen) {
  RunConfig config;
  const FieldList list = fields_of(config);
  for (const char* bad :
       {"train.optimizer.epsilon=0", "train.optimizer.epsilon=-1e-8", "train.optimizer.epsilon=1e-60",
        "train.optimizer.beta1=1", "train.optimizer.beta2=1", "train.optimizer.beta2=1.5",
        "train.optimizer.beta1=-0.1", "parallel.timeout_s=0", "checkpoints.timeout_s=0"})
    EXPECT_THROW(apply_setting(list, bad), ConfigError) << bad;
  for (const char* good : {"train.optimizer.epsilon=1e-10", "train.optimizer.beta1=0",
                           "train.optimizer.beta2=0.99999", "train.learning_rate=0", "run.lock_wait_s=0"})
    EXPECT_NO_THROW(apply_setting(list, good)) << good;
}

TEST(RunConfig, PathsAreExpandedAndTheRunsFolderHasOneName) {
  setenv("HOME", "/home/me", 1);
  const std::string tiny = std::string(FWL_SOURCE_DIR) + "/launch/configs/tiny.yaml";
  RunConfig config =
      load_run_config(tiny, {"run.dir=~/runs//a/", "data.path=~/data", "train.resume=~/runs/b"});
  EXPECT_EQ(config.run_dir, "/home/me/runs/a");
  EXPECT_EQ(config.data.path, "/home/me/data");
  EXPECT_EQ(config.train.resume, "/home/me/runs/b");
  config = load_run_config(tiny, {"data.mixture=~/a=0.5,b=1"});
  EXPECT_EQ(config.data.mixture, "/home/me/a=0.5,b=1");
  const std::string here = std::filesystem::current_path().string();
  EXPECT_EQ(stored_form(config).data.mixture, "/home/me/a=0.5," + here + "/b=1");
  for (const char* bad : {"run.dir=", "run.dir=~you/x", "data.path=~you", "train.resume=~you/x"})
    EXPECT_THROW(load_run_config(tiny, {bad}), ConfigError) << bad;
}

// Settings and what is said of them; nothing where the text is empty.
TEST(ConfigNotes, WhatChangesNothingIsSaid) {
  const std::string tiny = std::string(FWL_SOURCE_DIR) + "/launch/configs/tiny.yaml";
  const auto notes = [&](const std::vector<std::string>& settings) {
    std::string text;
    for (const std::string& note : notes_on(load_run_config(tiny, settings), settings)) text += note + "\n";
    return text;
  };
  struct Row {
    std::vector<std::string> settings;
    std::string said;
  };
  const std::string update = "model.fast_weight.update=";
  for (const Row& row : std::vector<Row>{
           {{}, ""},
           {{update + "none"},
            "without effect under model.fast_weight.update=none: model.fast_weight.chunk=32"},
           {{update + "absent", "model.fast_weight.write_gate=none"}, "model.fast_weight.write_gate=none"},
           {{update + "none", "model.fast_weight.width=64"}, "model.fast_weight.chunk=32\n"},
           {{"model.fast_weight.second_order=false", "model.fast_weight.hessian_threshold=0.1"},
            "model.fast_weight.hessian_threshold=0.1"},
           {{"model.fast_weight.second_order=false"}, ""},
           {{"model.fast_weight.decay_init_slowest=0.9999"}, "under model.fast_weight.decay_heads=1"},
           {{"model.fast_weight.decay_init=1", "model.fast_weight.decay_max=0.99"},
            "model.fast_weight.decay_max=0.99"},
           {{"model.max_positions=512"}, "under model.positions=rotary: model.max_positions=512"},
           {{"model.positions=learned", "model.rotary_base=5000"}, "model.rotary_base=5000"},
           {{"model.positions=learned", "model.rotary_base=10000"}, "model.rotary_base=10000"},
           {{"model.window=128"}, "model.window=128"},
           {{"checkpoints.keep=0", "checkpoints.keep_every=10"}, "checkpoints.keep_every=10"},
           {{"parallel.attention=halo"}, "under parallel.sequence=1: parallel.attention=halo"},
           {{"train.dtype=fp64", "parallel.gradient_wire=bf16"}, "parallel.gradient_wire=bf16"},
           {{"train.log_every=101", "parallel.timing=true"},
            "without effect under train.log_every=101 (above 100): parallel.timing=true"},
           {{"train.log_every=100", "parallel.timing=true", "train.steps=11"}, ""},
           {{"train.log_every=101"}, ""},
           {{"run.id=0123456789abcdef"}, "without effect: --set run.id"},
           {{"train.steps=10"}, "train.warmup_steps = 10 is not below train.steps = 10"},
           {{"train.steps=11"}, ""},
           {{"train.steps=3", "train.warmup_steps=0"}, ""},
           {{"train.steps=30", "train.steps=40"},
            "--set train.steps is given 2 times: the last one counts, 40"},
       }) {
    const std::string said = notes(row.settings);
    if (row.said.empty()) {
      EXPECT_EQ(said, "");
    } else {
      EXPECT_NE(said.find(row.said), std::string::npos) << row.said << "\n" << said;
    }
  }
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
