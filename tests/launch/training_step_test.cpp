#include "launch/training_step.h"

#include <gtest/gtest.h>

#include <cmath>

#include "launch/carried_size.h"
#include "launch/carried_state.h"
#include "launch/synthetic_batch.h"
#include "tests/support/small_model.h"

namespace fwl {
namespace {

RunConfig small_run() {
  RunConfig config;
  config.model = small_model_config();
  config.train.dtype = "fp64";
  config.train.global_batch = 4;
  config.train.micro_batch = 3;
  config.train.clip_norm = 0.5;
  config.parallel.data = config.parallel.sequence = 1;
  return config;
}

struct SmallRun {
  RunConfig config = small_run();
  Mesh mesh = Mesh::solo(at::kCPU);
  TrainingStep step{config, mesh, at::kCPU};
  StepGradient::BatchSource text(uint64_t seed) {
    return [this, seed](int64_t first_row, int64_t rows) {
      const SyntheticText text{seed, config.model.vocab_size, {}, {}};
      return synthetic_batch(text, first_row, rows, 0, config.model.context, at::kCPU, at::kDouble);
    };
  }
  Tensor values() { return step.model().parameters().values().clone(); }
};

TEST(TrainingStep, AQueuedStepIsGradientThenUpdate) {
  SmallRun queued, apart;
  std::optional<StepOutcome> last;
  double loss = 0, norm = 0;
  for (uint64_t i = 0; i < 4; ++i) {
    last = queued.step.run(queued.text(i), 96, 1e-2);
    loss = apart.step.compute_gradient(apart.text(i), 96).main;
    norm = apart.step.optimizer().step(1e-2, 0.5).item<double>();
  }
  EXPECT_TRUE(at::equal(queued.values(), apart.values()));
  const StepOutcome::Numbers numbers = last->wait();
  EXPECT_EQ(numbers.own.main, loss);
  EXPECT_EQ(numbers.gradient_norm, norm);
  EXPECT_GT(norm, 0.5) << "the test clips";
  EXPECT_FALSE(numbers.skipped);
}

TEST(TrainingStep, AGradientThatIsNotFiniteIsSkippedAndNamed) {
  SmallRun run;
  run.step.run(run.text(0), 96, 1e-2);
  const Tensor before = run.values();
  const auto poisoned = [&](int64_t first_row, int64_t rows) {
    TokenBatch batch = run.text(1)(first_row, rows);
    batch.weight_bt = batch.weight_bt.clone();
    batch.weight_bt[0][0] = INFINITY;
    return batch;
  };
  EXPECT_TRUE(run.step.run(poisoned, 96, 1e-2).wait().skipped);
  EXPECT_TRUE(at::equal(run.values(), before));
  EXPECT_EQ(run.step.optimizer().own().updates(), 1);
  EXPECT_FALSE(run.step.run(run.text(2), 96, 1e-2).wait().skipped);
  EXPECT_EQ(run.step.optimizer().own().updates(), 2);
}

TEST(TrainingStep, WhatStreamsCarryIsKnownBefore) {
  using Change = void (*)(RunConfig&);
  for (const Change change :
       std::initializer_list<Change>{[](RunConfig&) {}, [](RunConfig& c) { c.data.order = "documents"; },
                                     [](RunConfig& c) { c.model.window = 0; },
                                     [](RunConfig& c) { c.model.fast_weight.fast_layers = "second"; },
                                     [](RunConfig& c) { c.model.fast_weight.update = "none"; }}) {
    SmallRun source;
    RunConfig config = small_run();
    config.train.stream = true;
    change(config);
    TrainingStep step(config, source.mesh, at::kCPU);
    for (uint64_t i = 0; i < 3; ++i) step.run(source.text(i), 96, 1e-2);
    std::vector<SliceBlock> blocks;
    add_stream_blocks(step.gradient().stream_state(), 0, config.train.global_batch, &blocks);
    int64_t elements = 0;
    for (const SliceBlock& block : blocks) elements += block.elements.numel();
    EXPECT_EQ(elements, carried_elements(config)) << to_yaml(fields_of(config));
  }
}

}  // namespace
}  // namespace fwl
