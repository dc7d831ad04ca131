#include "parallel/sharded_optimizer.h"

#include <gtest/gtest.h>

#include "core/base/error.h"
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
  LanguageModel model;
  ShardedOptimizer optimizer;
  GradientReducer reducer;
  Training(Communicator& group, OptimizerSharding sharding, at::ScalarType compute = at::kFloat)
      : model(odd_config(), at::kCPU, compute, 3),
        optimizer(group, model.parameters(), steady(), sharding, kBucketBytes),
        reducer(group, model.parameters(), {kBucketBytes, reduction_for(sharding), {}}) {}

  double step(Communicator& group, int step) {
    Parameters& parameters = model.parameters();
    parameters.gradients().copy_(gradient_of(group.rank(), step, parameters.count()));
    reducer.reduce();
    return optimizer.step(1e-2, 1.0).item<double>();
  }
};

void expect_equal_to_replicated(at::ScalarType compute) {
  const auto group = make_world_communicator(60);
  Training replicated(*group, OptimizerSharding::kReplicated, compute),
      sharded(*group, OptimizerSharding::kSharded, compute);
  ASSERT_NE(replicated.model.parameters().count() % group->size(), 0)
      << "the size must be uneven for this test";
  for (int step = 0; step < 5; ++step) {
    const double expected = replicated.step(*group, step);
    EXPECT_NEAR(sharded.step(*group, step), expected, 1e-6 * expected);
    const Tensor difference =
        (sharded.optimizer.gather_values() - replicated.model.parameters().values()).abs().max();
    EXPECT_LE(difference.item<double>(), 1e-6) << "step " << step;
  }
}

TEST(ShardedOptimizer, EqualsTheReplicatedOneToRounding) {
  expect_equal_to_replicated(at::kFloat);
}
TEST(ShardedOptimizer, EqualsTheReplicatedOneToRoundingWithValuesSpreadOverTheRanks) {
  expect_equal_to_replicated(at::kBFloat16);
}

TEST(ShardedOptimizer, InBfloat16ARankKeepsItsPartOfTheValuesAndAllCopies) {
  const auto group = make_world_communicator(60);
  Training run(*group, OptimizerSharding::kSharded, at::kBFloat16);
  Parameters& parameters = run.model.parameters();
  for (int step = 0; step < 3; ++step) run.step(*group, step);
  EXPECT_THROW(parameters.values(), InternalError);
  EXPECT_THROW(parameters["embedding"], InternalError);
  const int64_t bucket = kBucketBytes / static_cast<int64_t>(sizeof(float));
  EXPECT_LE(parameters.kept_values().numel(), 2 * bucket) << "the step sizes' bucket alone stays whole";
  EXPECT_LE(run.optimizer.own().masters().numel(), parameters.count() / group->size() + 8 * group->size());

  parameters.refresh_copies();
  const Tensor values = run.optimizer.gather_values();
  const int64_t copied = parameters.copies().numel();
  EXPECT_TRUE(at::equal(parameters.copies(), values.narrow(0, 0, copied).to(at::kBFloat16)));
  EXPECT_TRUE(at::equal(parameters.kept_values(),
                        values.narrow(0, parameters.released(), parameters.kept_values().numel())));
  // The model computes with them, and takes other ones.
  const TokenBatch batch = random_batch(run.model.config(), 2, run.model.config().context, at::kFloat, 3);
  LanguageModel whole(odd_config(), at::kCPU, at::kBFloat16, 3);
  whole.parameters().values().copy_(values);
  const auto loss_of = [&](LanguageModel& model) {
    const Tensor loss = model.training_loss(batch, 0.1).objective;
    model.parameters().zero_gradients();
    model.parameters().backward(loss);
    return loss.item<float>();
  };
  EXPECT_EQ(loss_of(run.model), loss_of(whole));
  EXPECT_TRUE(at::equal(parameters.gradients(), whole.parameters().gradients()));
  whole.parameters().values().mul_(1.5);
  run.optimizer.own().set_values(whole.parameters().values());
  EXPECT_TRUE(at::equal(run.optimizer.gather_values(), whole.parameters().values()));
  EXPECT_EQ(loss_of(run.model), loss_of(whole));
}

TEST(ShardedOptimizer, AllRanksHoldTheSameWeightsAndTheirShareOfMoments) {
  const auto group = make_world_communicator(60);
  Training run(*group, OptimizerSharding::kSharded);
  for (int step = 0; step < 3; ++step) run.step(*group, step);
  const Tensor values = run.model.parameters().values().detach().clone();
  group->broadcast(values, 0);
  EXPECT_TRUE(at::equal(values, run.model.parameters().values()));
  EXPECT_LE(run.optimizer.own().first_moments().numel(),
            run.model.parameters().count() / group->size() + 8 * group->size());
  EXPECT_GT(group->traffic().reduce_scatter.calls, 0);
  EXPECT_GT(group->traffic().all_gather.calls, 0);
}

TEST(ShardedOptimizer, RangesOfAllRanksCoverEveryElement) {
  for (const int64_t count : {1, 3, 7, 8, 100, 1001})
    for (const int ranks : {1, 2, 3, 8})
      for (const int64_t parts : {1, 4, 16}) {
        std::vector<int> owners(static_cast<size_t>(count), 0);
        for (int rank = 0; rank < ranks; ++rank)
          for (const ElementRange& range : shard_ranges(count, parts * ranks, rank, ranks))
            for (int64_t i = 0; i < range.count; ++i) ++owners[static_cast<size_t>(range.first + i)];
        for (int64_t i = 0; i < count; ++i) {
          const bool is_shared = i >= count - shared_by_all(count, parts * ranks, ranks);
          EXPECT_EQ(owners[static_cast<size_t>(i)], is_shared ? ranks : 1)
              << count << " elements, " << ranks << " ranks, element " << i;
        }
      }
}

TEST(ShardedOptimizer, PartsBeginWhereVectorsOfBfloat16DoOnAnyNumberOfRanks) {
  const Tensor flat = at::empty({1}, at::kFloat);
  for (const int ranks : {2, 3, 5, 6, 7, 8, 48}) {
    const int64_t bucket = bucket_elements(kDefaultBucketBytes, flat, Reduction::kReduceScatter, ranks);
    for (const int64_t count : {int64_t{1000003}, int64_t{128300003}, 3 * bucket}) {
      EXPECT_LT(shared_by_all(count, bucket, ranks), 8 * ranks);
      for (int rank = 0; rank < ranks; ++rank)
        for (const ElementRange& range : shard_ranges(count, bucket, rank, ranks))
          EXPECT_EQ(range.first % 8, 0) << ranks << " ranks, " << count << " elements";
    }
  }
}

}  // namespace
}  // namespace fwl
