// GPU collectives against their definition: one rank alone, or N ranks on N GPUs under mpirun.
#include <gtest/gtest.h>

#include <cstdio>

#include "core/base/device.h"
#include "core/base/error.h"
#include "parallel/gradient_reducer.h"
#include "parallel/session.h"

namespace fwl {
namespace {

class NcclCommunicatorTest : public testing::Test {
 protected:
  void SetUp() override {
    if (cuda_device_count() == 0) {
      printf("SKIPPED: no GPU\n");
      GTEST_SKIP();
    }
    device_ = choose_device("cuda", world().local_rank);
    group_ = make_world_nccl_communicator(device_.index(), 60);
    rank_ = group_->rank();
    size_ = group_->size();
  }

  // Whole numbers that differ by rank and place, and are exact in every dtype after summing.
  Tensor numbers_of(int rank, int64_t size, at::ScalarType type) const {
    return at::arange(size, at::kLong).mul(rank + 1).remainder(31).to(type).to(device_);
  }

  at::Device device_ = at::kCPU;
  std::unique_ptr<Communicator> group_;
  int rank_ = 0, size_ = 1;
};

const std::vector<at::ScalarType> kTypes = {at::kFloat, at::kDouble, at::kBFloat16, at::kLong};
const std::vector<int64_t> kSizes = {0, 1, 1001, 1234567};

TEST_F(NcclCommunicatorTest, CollectivesMatchTheirDefinition) {
  for (const at::ScalarType type : kTypes) {
    for (const int64_t size : kSizes) {
      Tensor sum = at::zeros({size}, at::TensorOptions().dtype(at::kLong).device(device_));
      for (int r = 0; r < size_; ++r) sum += numbers_of(r, size, at::kLong);
      const Tensor reduced = numbers_of(rank_, size, type);
      group_->all_reduce_sum(reduced);
      EXPECT_TRUE(at::equal(reduced, sum.to(type))) << c10::toString(type) << " x " << size;
      const Tensor copied = numbers_of(rank_, size, type);
      group_->broadcast(copied, size_ - 1);
      EXPECT_TRUE(at::equal(copied, numbers_of(size_ - 1, size, type)))
          << c10::toString(type) << " x " << size;
      const Tensor gathered = at::zeros({size_, size}, reduced.options());
      group_->all_gather(gathered, numbers_of(rank_, size, type));
      for (int r = 0; r < size_; ++r) EXPECT_TRUE(at::equal(gathered[r], numbers_of(r, size, type)));
    }
  }
}

TEST_F(NcclCommunicatorTest, SumsAreTheSameOnAllRanksBitForBit) {
  const Tensor tensor = at::sin(at::arange(300001, at::kFloat).mul(rank_ + 1.37)).to(device_);
  group_->all_reduce_sum(tensor);
  const Tensor gathered = at::empty({size_, tensor.numel()}, tensor.options());
  group_->all_gather(gathered, tensor);
  for (int r = 0; r < size_; ++r) EXPECT_TRUE(at::equal(gathered[r], tensor)) << "rank " << r;
}

TEST_F(NcclCommunicatorTest, ScalarsBarrierAndReducerWorkOnTheGpu) {
  group_->barrier();
  EXPECT_EQ(all_reduce_scalar_sum(*group_, 2.5), 2.5 * size_);
  EXPECT_TRUE(all_agree(*group_, Vote::kYes));
  const Tensor gradient =
      at::full({10007}, rank_ + 1.0, at::TensorOptions().dtype(at::kFloat).device(device_));
  GradientReducer(*group_, gradient, {.bucket_bytes = 4096}).reduce();
  EXPECT_TRUE(at::equal(gradient, at::full_like(gradient, size_ * (size_ + 1) / 2.0)));
}

TEST_F(NcclCommunicatorTest, PartsMessagesAndScatteredSumsArrive) {
  for (const int64_t size : {int64_t{1}, int64_t{1000}, int64_t{1234567}}) {
    Tensor in = at::empty({size_, size}, at::TensorOptions().dtype(at::kFloat).device(device_));
    for (int to = 0; to < size_; ++to) in[to].copy_(numbers_of(10 * rank_ + to, size, at::kFloat));
    const Tensor out = at::zeros_like(in);
    group_->all_to_all(out, in);
    for (int from = 0; from < size_; ++from)
      EXPECT_TRUE(at::equal(out[from], numbers_of(10 * from + rank_, size, at::kFloat))) << size;
    for (int to = 0; to < size_; ++to) in[to].copy_(numbers_of(rank_, size, at::kFloat));
    const Tensor own = at::zeros({size}, in.options());
    group_->reduce_scatter_sum(own, in);
    Tensor sum = at::zeros({size}, in.options());
    for (int r = 0; r < size_; ++r) sum += numbers_of(r, size, at::kFloat);
    EXPECT_TRUE(at::equal(own, sum)) << size;
    const int right = (rank_ + 1) % size_, left = (rank_ + size_ - 1) % size_;
    const Tensor received = at::zeros({size}, in.options());
    TransferPtr transfer = group_->start_exchange({{right, numbers_of(rank_, size, at::kFloat)}},
                                                  {{left, received}}, purpose::kState);
    transfer->wait();
    EXPECT_TRUE(at::equal(received, numbers_of(left, size, at::kFloat))) << size;
  }
  group_->take_times();
  group_->all_reduce_sum(at::ones({10000000}, at::TensorOptions().device(device_)));
  const TransferTimes times = group_->take_times();
  EXPECT_GT(times.total_s, 0);
  EXPECT_GT(times.exposed_s, 0);
  EXPECT_LT(times.total_s, 10);
}

TEST_F(NcclCommunicatorTest, RefusesWhatItCannotMove) {
  EXPECT_THROW(group_->all_reduce_sum(at::zeros({3})), InternalError);
  EXPECT_THROW(group_->all_reduce_sum(at::zeros({2, 3}, at::TensorOptions().device(device_)).t()),
               InternalError);
  EXPECT_THROW(group_->broadcast(at::zeros({3}, at::TensorOptions().device(device_)), size_), InternalError);
}

}  // namespace
}  // namespace fwl
