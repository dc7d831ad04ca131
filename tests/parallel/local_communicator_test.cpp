#include <gtest/gtest.h>

#include "core/base/error.h"
#include "parallel/communicator.h"
#include "parallel/session.h"

namespace fwl {
namespace {

TEST(LocalCommunicator, IsTheGroupOfOneRank) {
  const auto group = make_local_communicator();
  EXPECT_EQ(group->rank(), 0);
  EXPECT_EQ(group->size(), 1);
  const Tensor tensor = at::arange(5, at::kFloat);
  group->all_reduce_sum(tensor);
  group->broadcast(tensor, 0);
  group->barrier();
  EXPECT_TRUE(at::equal(tensor, at::arange(5, at::kFloat)));
  const Tensor out = at::zeros({1, 5});
  group->all_gather(out, tensor);
  EXPECT_TRUE(at::equal(out[0], tensor));
}

TEST(LocalCommunicator, WaitsForItsOwnWorkUntilItIsDone) {
  int looks = 0;
  make_local_communicator()->wait_for_own("a disk", [&] { return ++looks == 3; });
  EXPECT_EQ(looks, 3);
}

// Code that runs on one rank must not pass what would fail on two.
TEST(LocalCommunicator, RefusesWhatTheOtherGroupsRefuse) {
  const auto group = make_local_communicator();
  EXPECT_THROW(group->all_reduce_sum(at::zeros({2, 3}).t()), InternalError);
  EXPECT_THROW(group->all_reduce_sum(at::zeros({2}, at::kInt)), InternalError);
  EXPECT_THROW(group->broadcast(at::zeros({2}), 1), InternalError);
  EXPECT_THROW(group->all_gather(at::zeros({3}), at::zeros({2})), InternalError);
}

TEST(Session, WithoutALauncherIsOneRankOfOneAndEndsQuietly) {
  EXPECT_EQ(world().size, 1);
  EXPECT_EQ(world().rank, 0);
  EXPECT_STREQ(make_world_communicator(1)->name(), "local");
  abort_if_parallel(4);
  finalize_session();
  finalize_session();
}

}  // namespace
}  // namespace fwl
