#include "parallel/gradient_reducer.h"

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "parallel/session.h"

namespace fwl {
namespace {

TEST(GradientReducer, SumsTheFlatGradientInPlaceWhateverTheBucket) {
  const auto group = make_world_communicator(60);
  const int64_t count = 100003;
  Tensor expected = at::zeros({count}, at::kFloat);
  for (int r = 0; r < group->size(); ++r) expected += at::arange(count, at::kFloat).remainder(1000) * (r + 1);
  for (const int64_t bucket_bytes : {int64_t{4096}, int64_t{100001}, kDefaultBucketBytes}) {
    const Tensor gradient = at::arange(count, at::kFloat).remainder(1000) * (group->rank() + 1);
    GradientReducer reducer(*group, gradient, {.bucket_bytes = bucket_bytes});
    reducer.reduce();
    EXPECT_TRUE(at::equal(gradient, expected)) << "buckets of " << bucket_bytes << " bytes";
  }
}

TEST(GradientReducer, InBfloat16EachContributionIsRoundedAndTheSumsStayInTheGradientsDtype) {
  const auto group = make_world_communicator(60);
  const auto of_rank = [](int rank) { return at::sin(at::arange(10007, at::kFloat) * (rank + 1)); };
  Tensor expected = at::zeros({10007}, at::kFloat);
  for (int r = 0; r < group->size(); ++r) expected += of_rank(r).to(at::kBFloat16).to(at::kFloat);
  expected = expected.to(at::kBFloat16).to(at::kFloat);
  for (const Reduction reduction : {Reduction::kAllReduce, Reduction::kReduceScatter}) {
    const Tensor gradient = of_rank(group->rank());
    GradientReducer(*group, gradient, {4096, reduction, at::kBFloat16}).reduce();
    if (group->size() == 1) {
      EXPECT_TRUE(at::equal(gradient, of_rank(0))) << "one rank sends nothing";
      continue;
    }
    // A partial sum in another order can round to the next bfloat16.
    const Tensor close = (gradient - expected).abs() <= expected.abs() / 128;
    if (reduction == Reduction::kAllReduce) {
      EXPECT_TRUE(close.all().item<bool>());
      EXPECT_FALSE(at::equal(gradient, of_rank(group->rank())));
      continue;
    }
    const int64_t ranks = group->size(), bucket = 1024 / ranks * ranks, part = bucket / ranks;
    for (int64_t first = 0; first + bucket <= 10007; first += bucket)
      EXPECT_TRUE(close.narrow(0, first + part * group->rank(), part).all().item<bool>()) << first;
  }
}

TEST(GradientReducer, SendsOneMessageABucket) {
  const auto group = make_world_communicator(60);
  GradientReducer reducer(*group, at::zeros({1001}, at::kFloat), {.bucket_bytes = 400});
  EXPECT_EQ(reducer.buckets(), 11);
  reducer.reduce();
  EXPECT_EQ(group->traffic().all_reduce.calls, group->size() > 1 ? 11 : 0);
}

TEST(GradientReducer, RefusesWhatIsNotOneFlatTensorAndEmptyBuckets) {
  const auto group = make_world_communicator(60);
  EXPECT_THROW(GradientReducer(*group, at::zeros({4, 4}), {.bucket_bytes = 400}), InternalError);
  EXPECT_THROW(GradientReducer(*group, at::zeros({8}).slice(0, 0, 8, 2), {.bucket_bytes = 400}),
               InternalError);
  EXPECT_THROW(GradientReducer(*group, at::zeros({8}, at::kDouble), {.bucket_bytes = 7}), ConfigError);
}

}  // namespace
}  // namespace fwl
