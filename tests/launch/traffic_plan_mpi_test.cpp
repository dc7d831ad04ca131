// Predicted bytes are the counted ones, for every layout that the ranks allow.
#include "launch/traffic_plan.h"

#include <gtest/gtest.h>

#include "core/base/device.h"
#include "launch/step_gradient.h"
#include "launch/synthetic_batch.h"
#include "parallel/session.h"
#include "tests/support/small_model.h"

namespace fwl {
namespace {

void expect_predicted(const RunConfig& config, const MeshShape& shape) {
  Mesh mesh(shape, at::kCPU, 60);
  const at::ScalarType type = parse_dtype(config.train.dtype);
  LanguageModel model(config.model, at::kCPU, type, 1);
  StepGradient step(model, mesh, config);
  const SyntheticText text{1, config.model.vocab_size, {}, {}};
  for (int i = 0; i < 2; ++i) {
    step.accumulate(
        [&](int64_t first_row, int64_t rows) {
          return synthetic_batch(text, first_row, rows, step.share().first_position, step.share().positions,
                                 at::kCPU, type);
        },
        100);
  }
  const StepTraffic counted = counted_traffic(mesh);
  const StepTraffic one = predicted_traffic(config, shape, mesh.data_rank(), mesh.sequence_rank(),
                                            model.parameters().count(), Backend::kMpi);
  EXPECT_EQ(counted.gradients, 2 * one.gradients) << shape.to_string();
  EXPECT_EQ(counted.attention, 2 * one.attention) << shape.to_string();
  EXPECT_EQ(counted.state, 2 * one.state) << shape.to_string();
  EXPECT_GT(counted.gradients, 0);
  EXPECT_EQ(counted.state > 0, shape.sequence > 1);
}

TEST(TrafficPlan, PredictsWhatTheGroupsCount) {
  const int ranks = world().size;
  if (ranks == 1) GTEST_SKIP() << "one rank sends nothing";
  for (int sequence = 1; sequence <= ranks; sequence *= 2) {
    for (const bool stream : {false, true}) {
      for (const int64_t window : {0, 8}) {
        for (const char* state : {"all_gather", "all_to_all"}) {
          RunConfig config;
          config.model = small_model_config();
          config.model.heads = 4;
          config.model.window = window;
          config.train.dtype = "fp64";
          config.train.global_batch = 8;
          config.train.micro_batch = 3;
          config.train.stream = stream;
          config.parallel.bucket_mb = 0.1;
          config.parallel.state_exchange = state;
          expect_predicted(config, {ranks / sequence, sequence});
          config.parallel.shard_optimizer = true;
          expect_predicted(config, {ranks / sequence, sequence});
          config.model.fast_weight.decay_heads = 4;
          config.model.fast_weight.inner_steps = 2;
          expect_predicted(config, {ranks / sequence, sequence});
          config.train.dtype = "fp32";
          config.parallel.gradient_wire = "bf16";
          expect_predicted(config, {ranks / sequence, sequence});
          config.parallel.shard_optimizer = false;
          expect_predicted(config, {ranks / sequence, sequence});
        }
      }
    }
  }
}

}  // namespace
}  // namespace fwl
