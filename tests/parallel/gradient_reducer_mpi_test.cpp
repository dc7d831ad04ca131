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
    GradientReducer reducer(*group, gradient, bucket_bytes);
    reducer.reduce();
    EXPECT_TRUE(at::equal(gradient, expected)) << "buckets of " << bucket_bytes << " bytes";
  }
}

TEST(GradientReducer, SendsOneMessageABucket) {
  const auto group = make_world_communicator(60);
  GradientReducer reducer(*group, at::zeros({1001}, at::kFloat), 400);
  EXPECT_EQ(reducer.buckets(), 11);
  reducer.reduce();
  EXPECT_EQ(group->traffic().all_reduce.calls, group->size() > 1 ? 11 : 0);
}

TEST(GradientReducer, RefusesWhatIsNotOneFlatTensorAndEmptyBuckets) {
  const auto group = make_world_communicator(60);
  EXPECT_THROW(GradientReducer(*group, at::zeros({4, 4}), 400), InternalError);
  EXPECT_THROW(GradientReducer(*group, at::zeros({8}).slice(0, 0, 8, 2), 400), InternalError);
  EXPECT_THROW(GradientReducer(*group, at::zeros({8}, at::kDouble), 7), ConfigError);
}

}  // namespace
}  // namespace fwl
