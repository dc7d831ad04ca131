// Whole training steps on the GPU, queued one behind the other, against those of the CPU.
#include <gtest/gtest.h>

#include <cstdio>

#include "core/base/device.h"
#include "core/base/error.h"
#include "launch/synthetic_batch.h"
#include "launch/training_step.h"
#include "tests/support/small_model.h"

namespace fwl {
namespace {

// Losses and gradient norms of queued steps; *values are the weights after them.
std::vector<double> train(at::Device device, const std::string& dtype, const ModelConfig& model,
                          Tensor* values) {
  RunConfig config;
  config.model = model;
  config.train.dtype = dtype;
  config.train.device = device.is_cuda() ? "cuda" : "cpu";
  config.train.global_batch = 4;
  config.train.micro_batch = 3;
  config.train.clip_norm = 0.5;
  config.parallel.data = config.parallel.sequence = 1;
  Mesh mesh = Mesh::solo(device);
  TrainingStep step(config, mesh, device);
  std::vector<StepOutcome> outcomes;
  for (uint64_t i = 0; i < 6; ++i) {
    const SyntheticText text{i, config.model.vocab_size, {}, {}};
    outcomes.push_back(step.run(
        [&](int64_t first_row, int64_t rows) {
          return synthetic_batch(text, first_row, rows, 0, config.model.context, device,
                                 step.model().accumulation_type());
        },
        96,
        1e-3));  // Adam's first updates are signs: at larger rates rounding decides small gradients' share
  }
  std::vector<double> numbers;
  for (const StepOutcome& outcome : outcomes) {
    EXPECT_FALSE(outcome.wait().skipped);
    numbers.push_back(outcome.wait().own.main / 96);
    numbers.push_back(outcome.wait().gradient_norm);
  }
  *values = step.model().parameters().values().to(at::kCPU, at::kDouble);
  return numbers;
}

TEST(TrainingStepOnGpu, QueuedStepsEqualThoseOfTheCpu) {
  if (cuda_device_count() == 0) {
    std::puts("SKIPPED: no GPU");
    GTEST_SKIP();
  }
  const at::Device gpu = choose_device("cuda", 0);
  ModelConfig with_options = small_model_config();
  with_options.fast_weight.inner_steps = 2;
  with_options.fast_weight.write_gate = "both";
  with_options.fast_weight.key_norm = "l2_both";
  with_options.fast_weight.learned_start = with_options.fast_weight.query_gain = true;
  ModelConfig likely = small_model_config();
  likely.fast_weight.hessian_threshold = 0.03;  // of 31 tokens: some are below, some above
  for (const ModelConfig& model : {small_model_config(), with_options, likely}) {
    SCOPED_TRACE(cat(model.fast_weight.inner_steps, " steps, ", model.fast_weight.hessian_threshold));
    Tensor expected, found;
    const std::vector<double> cpu = train(at::kCPU, "fp64", model, &expected);
    for (const auto& [dtype, tolerance] :
         std::vector<std::pair<std::string, double>>{{"fp64", 1e-9}, {"fp32", 1e-3}, {"bf16", 0.1}}) {
      const std::vector<double> numbers = train(gpu, dtype, model, &found);
      for (size_t i = 0; i < cpu.size(); ++i)
        EXPECT_NEAR(numbers[i], cpu[i], tolerance * cpu[i]) << dtype << ", number " << i;
      EXPECT_LT((found - expected).norm().item<double>(), tolerance * expected.norm().item<double>())
          << dtype;
    }
  }
}

}  // namespace
}  // namespace fwl
