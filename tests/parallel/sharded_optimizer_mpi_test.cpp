#include "parallel/sharded_optimizer.h"

#include <gtest/gtest.h>

#include "parallel/session.h"
#include "tests/support/small_model.h"

namespace fwl {
namespace {

constexpr int64_t kBucketBytes = 4096;

// Every rank's gradient of step `step` differs; the values are the same in every process.
Tensor gradient_of(int rank, int step, int64_t count) {
  return at::sin(at::arange(count, at::kDouble) * (0.37 * (rank + 1)) + step).to(at::kFloat) * 0.1;
}

// A number of parameters that 2 and 4 do not divide.
ModelConfig odd_config() {
  ModelConfig config = small_model_config();
  config.fast_weight.fast_norm = true;
  return config;
}

// Adam divides by the root of the second moments: an epsilon well above the rounding of the sums keeps
// elements whose gradients cancel from amplifying it.
AdamWConfig steady() {
  AdamWConfig config;
  config.epsilon = 1e-3;
  return config;
}

struct Training {
  LanguageModel model{odd_config(), at::kCPU, at::kFloat, 3};
  GradientReducer reducer;
  ShardedOptimizer optimizer;
  Training(Communicator& group, OptimizerSharding sharding)
      : reducer(group, model.parameters(), {kBucketBytes, reduction_for(sharding), {}}),
        optimizer(group, model.parameters(), steady(), sharding, kBucketBytes) {}

  double step(Communicator& group, int step) {
    Parameters& parameters = model.parameters();
    parameters.gradients().copy_(gradient_of(group.rank(), step, parameters.count()));
    reducer.reduce();
    const double norm = optimizer.gradient_norm(group);
    optimizer.step(1e-2, norm > 1 ? 1 / norm : 1.0);
    return norm;
  }
};

TEST(ShardedOptimizer, EqualsTheReplicatedOneToRounding) {
  const auto group = make_world_communicator(60);
  Training replicated(*group, OptimizerSharding::kReplicated), sharded(*group, OptimizerSharding::kSharded);
  ASSERT_NE(replicated.model.parameters().count() % group->size(), 0)
      << "the size must be uneven for this test";
  for (int step = 0; step < 5; ++step) {
    const double expected = replicated.step(*group, step);
    EXPECT_NEAR(sharded.step(*group, step), expected, 1e-6 * expected);
    const Tensor difference =
        (sharded.model.parameters().values() - replicated.model.parameters().values()).abs().max();
    EXPECT_LE(difference.item<double>(), 1e-6) << "step " << step;
  }
}

TEST(ShardedOptimizer, AllRanksHoldTheSameWeightsAndTheirShareOfMoments) {
  const auto group = make_world_communicator(60);
  Training run(*group, OptimizerSharding::kSharded);
  for (int step = 0; step < 3; ++step) run.step(*group, step);
  const Tensor values = run.model.parameters().values().detach().clone();
  group->broadcast(values, 0);
  EXPECT_TRUE(at::equal(values, run.model.parameters().values()));
  EXPECT_LE(run.optimizer.own().first_moments().numel(),
            run.model.parameters().count() / group->size() + group->size());
  EXPECT_GT(group->traffic().reduce_scatter.calls, 0);
  EXPECT_GT(group->traffic().all_gather.calls, 0);
}

TEST(ShardedOptimizer, RangesOfAllRanksCoverEveryElement) {
  for (const int64_t count : {1, 3, 7, 8, 100, 1001})
    for (const int ranks : {1, 2, 3, 8})
      for (const int64_t parts : {1, 4}) {
        std::vector<int> owners(static_cast<size_t>(count), 0);
        for (int rank = 0; rank < ranks; ++rank)
          for (const ElementRange& range : shard_ranges(count, parts * ranks, rank, ranks))
            for (int64_t i = 0; i < range.count; ++i) ++owners[static_cast<size_t>(range.first + i)];
        for (int64_t i = 0; i < count; ++i) {
          const bool is_shared = i >= count - count % (parts * ranks) % ranks;
          EXPECT_EQ(owners[static_cast<size_t>(i)], is_shared ? ranks : 1)
              << count << " elements, " << ranks << " ranks, element " << i;
        }
      }
}

}  // namespace
}  // namespace fwl
