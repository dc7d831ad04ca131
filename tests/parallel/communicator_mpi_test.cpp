// Every collective of the host group against its definition, at 2 and 4 ranks (and at 1 when run alone).
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "parallel/communicator.h"
#include "parallel/session.h"

namespace fwl {
namespace {

constexpr double kTimeout_s = 60;
const std::vector<at::ScalarType> kTypes = {at::kFloat, at::kDouble, at::kBFloat16, at::kLong};
// Empty, below and above the switch to the ring (64 KiB), not a multiple of ranks or segments, several
// segments.
const std::vector<int64_t> kSizes = {0, 1, 3, 1000, 16 * 1024 + 1, 1234567};

// Small whole numbers that differ by rank and place: exact in every dtype, also after summing.
Tensor numbers_of(int rank, int64_t size, at::ScalarType type) {
  return at::arange(size, at::kLong).mul(rank + 1).remainder(31).to(type);
}

Tensor sum_of_all(int ranks, int64_t size, at::ScalarType type) {
  Tensor sum = at::zeros({size}, at::kLong);
  for (int r = 0; r < ranks; ++r) sum += numbers_of(r, size, at::kLong);
  return sum.to(type);
}

class CommunicatorTest : public testing::Test {
 protected:
  std::unique_ptr<Communicator> group_ = make_world_communicator(kTimeout_s);
  int rank_ = group_->rank();
  int size_ = group_->size();
};

TEST_F(CommunicatorTest, IsTheWholeWorld) {
  EXPECT_EQ(rank_, world().rank);
  EXPECT_EQ(size_, world().size);
  EXPECT_STREQ(group_->name(), size_ > 1 ? "mpi" : "local");
  EXPECT_EQ(world().local_size, size_);
  EXPECT_EQ(world().local_rank, rank_);
}

TEST_F(CommunicatorTest, AllReduceGivesTheSumForEveryDtypeAndSize) {
  for (const at::ScalarType type : kTypes) {
    for (const int64_t size : kSizes) {
      const Tensor tensor = numbers_of(rank_, size, type);
      group_->all_reduce_sum(tensor);
      EXPECT_TRUE(at::equal(tensor, sum_of_all(size_, size, type))) << c10::toString(type) << " x " << size;
    }
  }
}

TEST_F(CommunicatorTest, AllReduceRoundsBfloat16OnceAfterTheSum) {
  // 256 + 1 is 256 in bfloat16, so summing in bfloat16 would never leave 256.
  const Tensor tensor = at::full({5}, rank_ == 0 ? 256.0 : 1.0, at::kBFloat16);
  group_->all_reduce_sum(tensor);
  EXPECT_TRUE(at::equal(tensor, at::full({5}, 255.0 + size_, at::kFloat).to(at::kBFloat16)));
}

TEST_F(CommunicatorTest, AllReduceGivesTheSameBitsOnAllRanksAndEveryTime) {
  for (const int64_t size : {1000, 300001}) {
    const Tensor start = at::sin(at::arange(size, at::kFloat).mul(rank_ + 1.37));
    Tensor first;
    for (int round = 0; round < 3; ++round) {
      const Tensor tensor = start.clone();
      group_->all_reduce_sum(tensor);
      if (!first.defined()) first = tensor;
      EXPECT_TRUE(at::equal(tensor, first));
    }
    const Tensor gathered = at::empty({size_, size}, at::kFloat);
    group_->all_gather(gathered, first);
    for (int r = 0; r < size_; ++r) EXPECT_TRUE(at::equal(gathered[r], first)) << "rank " << r;
  }
}

TEST_F(CommunicatorTest, BroadcastCopiesFromEveryRoot) {
  for (const at::ScalarType type : {at::kFloat, at::kLong, at::kByte, at::kBool}) {
    for (const int64_t size : kSizes) {
      for (int root = 0; root < size_; ++root) {
        const Tensor tensor = numbers_of(rank_, size, type);
        group_->broadcast(tensor, root);
        EXPECT_TRUE(at::equal(tensor, numbers_of(root, size, type))) << c10::toString(type) << " x " << size;
      }
    }
  }
}

TEST_F(CommunicatorTest, BroadcastCrossesThePieceBoundary) {
  const int64_t size = 16 * 1024 * 1024 + 5;
  const Tensor tensor = at::full({size}, rank_ + 1, at::kByte);
  group_->broadcast(tensor, size_ - 1);
  EXPECT_TRUE(at::equal(tensor, at::full({size}, size_, at::kByte)));
}

TEST_F(CommunicatorTest, AllGatherPutsEveryRankInItsPart) {
  for (const at::ScalarType type : kTypes) {
    for (const int64_t size : kSizes) {
      const Tensor out = at::zeros({size_, size}, type);
      group_->all_gather(out, numbers_of(rank_, size, type));
      for (int r = 0; r < size_; ++r) EXPECT_TRUE(at::equal(out[r], numbers_of(r, size, type))) << size;
    }
  }
}

TEST_F(CommunicatorTest, AllGatherWorksInPlace) {
  const Tensor out = at::zeros({size_, 70000}, at::kFloat);
  out[rank_].fill_(rank_ + 1);
  group_->all_gather(out, out[rank_]);
  for (int r = 0; r < size_; ++r) EXPECT_TRUE(at::equal(out[r], at::full({70000}, r + 1, at::kFloat)));
}

TEST_F(CommunicatorTest, AllToAllSendsEveryPartToItsRank) {
  for (const int64_t size : kSizes) {
    Tensor in = at::empty({size_, size}, at::kFloat), out = at::zeros_like(in);
    for (int to = 0; to < size_; ++to) in[to].copy_(numbers_of(10 * rank_ + to, size, at::kFloat));
    group_->all_to_all(out, in);
    for (int from = 0; from < size_; ++from)
      EXPECT_TRUE(at::equal(out[from], numbers_of(10 * from + rank_, size, at::kFloat))) << size;
  }
}

TEST_F(CommunicatorTest, ReduceScatterGivesEachRankItsPartOfTheSum) {
  for (const at::ScalarType type : kTypes) {
    for (const int64_t size : kSizes) {
      Tensor in = at::empty({size_, size}, type), out = at::zeros({size}, type);
      for (int to = 0; to < size_; ++to) in[to].copy_(numbers_of(rank_, size, type));
      group_->reduce_scatter_sum(out, in);
      EXPECT_TRUE(at::equal(out, sum_of_all(size_, size, type))) << c10::toString(type) << " x " << size;
    }
  }
}

TEST_F(CommunicatorTest, MessagesBetweenPairsArriveInOrderAlsoFromThisRankItself) {
  const int right = (rank_ + 1) % size_, left = (rank_ + size_ - 1) % size_;
  const auto number = [&](int rank, int k) { return at::full({1000 * (k + 1)}, 10 * rank + k, at::kDouble); };
  std::vector<Message> sends, receives;
  for (int k = 0; k < 3; ++k) {
    sends.push_back({right, number(rank_, k)});
    receives.push_back({left, at::zeros({1000 * (k + 1)}, at::kDouble)});
  }
  group_->exchange(sends, receives);
  for (int k = 0; k < 3; ++k) EXPECT_TRUE(at::equal(receives[k].tensor, number(left, k)));
  group_->exchange({}, {});
}

TEST_F(CommunicatorTest, SeveralStartedOperationsEndInAnyOrder) {
  const Tensor in = at::full({50000}, rank_ + 1.0, at::kFloat),
               gathered = at::zeros({size_, 50000}, at::kFloat);
  const Tensor parts = at::full({size_, 300}, rank_ + 1.0, at::kFloat), turned = at::zeros_like(parts);
  TransferPtr first = group_->start_all_gather(gathered, in, purpose::kState);
  TransferPtr second = group_->start_all_to_all(turned, parts, purpose::kAttention);
  const Tensor sum = at::full({70000}, 1.0, at::kFloat);
  group_->all_reduce_sum(sum);
  second->wait();
  first->wait();
  EXPECT_EQ(sum[0].item<double>(), size_);
  for (int r = 0; r < size_; ++r) {
    EXPECT_TRUE(at::equal(gathered[r], at::full({50000}, r + 1.0, at::kFloat)));
    EXPECT_TRUE(at::equal(turned[r], at::full({300}, r + 1.0, at::kFloat)));
  }
}

TEST_F(CommunicatorTest, DifferentTextsAreNamedByRank) {
  EXPECT_NO_THROW(require_same_text(*group_, "the config", "same"));
  if (size_ == 1) return;
  try {
    require_same_text(*group_, "the config", rank_ == 1 ? "other" : "same");
    FAIL() << "different texts were accepted";
  } catch (const ConfigError& error) {
    EXPECT_NE(std::string(error.what()).find("the config of rank(s) 1 differs"), std::string::npos)
        << error.what();
  }
}

TEST_F(CommunicatorTest, RefusesWhatItCannotMoveAndStaysUsable) {
  const Tensor strided = at::zeros({4, 6}, at::kFloat).t();
  EXPECT_THROW(group_->all_reduce_sum(strided), InternalError);
  EXPECT_THROW(group_->broadcast(strided, 0), InternalError);
  EXPECT_THROW(group_->all_gather(at::zeros({size_, 24}), strided), InternalError);
  EXPECT_THROW(group_->all_reduce_sum(Tensor()), InternalError);
  EXPECT_THROW(group_->all_reduce_sum(at::zeros({3}, at::kInt)), InternalError);
  EXPECT_THROW(group_->broadcast(at::zeros({3}), size_), InternalError);
  EXPECT_THROW(group_->broadcast(at::zeros({3}), -1), InternalError);
  EXPECT_THROW(group_->all_gather(at::zeros({size_ * 3 + 1}), at::zeros({3})), InternalError);
  EXPECT_THROW(group_->all_gather(at::zeros({size_ * 3}, at::kDouble), at::zeros({3})), InternalError);
  EXPECT_EQ(all_reduce_scalar_sum(*group_, 1.0), size_);
}

TEST_F(CommunicatorTest, SumsScalarsInOneMessage) {
  const std::vector<double> sums = all_reduce_sum(*group_, {1.0, 0.5 * rank_, 1e300});
  ASSERT_EQ(sums.size(), 3u);
  EXPECT_EQ(sums[0], size_);
  EXPECT_EQ(sums[1], 0.25 * size_ * (size_ - 1));
  EXPECT_EQ(sums[2], 1e300 * size_);
  EXPECT_EQ(group_->traffic().all_reduce.calls, size_ > 1 ? 1 : 0);
}

TEST_F(CommunicatorTest, AgreesOnlyWhenAllRanksSayYes) {
  EXPECT_TRUE(all_agree(*group_, Vote::kYes));
  EXPECT_FALSE(all_agree(*group_, rank_ == size_ - 1 ? Vote::kNo : Vote::kYes));
}

TEST_F(CommunicatorTest, CountsWhatItSends) {
  const int64_t count = 256 * 1024 * size_;  // every block of the ring has the same size
  group_->all_reduce_sum(at::zeros({count}, at::kFloat));
  group_->barrier();
  EXPECT_EQ(group_->traffic().all_reduce.calls, 1);
  EXPECT_EQ(group_->traffic().all_reduce.bytes_sent, 2 * (size_ - 1) * 4 * count / size_);
  EXPECT_EQ(group_->traffic().barrier.calls, 1);
  EXPECT_EQ(group_->traffic().broadcast.calls, 0);
}

TEST_F(CommunicatorTest, GroupsDoNotMixTheirMessages) {
  const auto other = make_world_communicator(kTimeout_s);
  const Tensor a = at::full({50000}, 1.0, at::kDouble), b = at::full({50000}, 10.0, at::kDouble);
  group_->all_reduce_sum(a);
  other->all_reduce_sum(b);
  EXPECT_EQ(a[49999].item<double>(), size_);
  EXPECT_EQ(b[49999].item<double>(), 10.0 * size_);
}

}  // namespace
}  // namespace fwl
