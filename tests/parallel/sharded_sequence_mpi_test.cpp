// Attention and fast-weight states over the ranks of a sequence, against one rank; bytes that are counted
// against bytes that are predicted.
#include "parallel/sharded_sequence.h"

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "parallel/halo.h"
#include "parallel/session.h"

namespace fwl {
namespace {

constexpr int64_t kBatch = 2, kHeads = 12, kLength = 6, kHeadDim = 4;

class ShardedTest : public testing::Test {
 protected:
  void SetUp() override { at::manual_seed(5); }

  // The same numbers on all ranks; rows of this rank along dim `dim`.
  Tensor own(const Tensor& whole, int64_t dim) const {
    return whole.narrow(dim, group_->rank() * kLength, kLength).detach().clone();
  }
  int64_t bytes(const char* purpose) const {
    const auto& by = group_->traffic().by_purpose;
    const auto found = by.find(purpose);
    return found == by.end() ? 0 : found->second.bytes_sent;
  }

  std::unique_ptr<Communicator> group_ = make_world_communicator(60);
  int ranks_ = group_->size();
};

using Attention = std::function<Tensor(const Tensor&, const Tensor&, const Tensor&)>;

class AttentionTest : public ShardedTest {
 protected:
  void expect_equal(AttentionAlgorithm algorithm, int64_t window, const Attention& sharded) {
    const auto random = [&] { return at::randn({kBatch, kHeads, ranks_ * kLength, kHeadDim}, at::kDouble); };
    std::vector<Tensor> whole = {random(), random(), random()};
    const Tensor weight = random();
    std::vector<Tensor> part;
    for (Tensor& x : whole) part.push_back(own(x.requires_grad_(true), 2).requires_grad_(true));
    const Tensor expected = causal_attention(whole[0], whole[1], whole[2], window);
    const int64_t before = bytes(purpose::kAttention);
    const Tensor out = sharded(part[0], part[1], part[2]);
    const int64_t forward = bytes(purpose::kAttention) - before;
    EXPECT_LT((out - own(expected, 2)).abs().max().item<double>(), 1e-12);
    const auto a = torch::autograd::grad({(out * own(weight, 2)).sum()}, part);
    const auto b = torch::autograd::grad({(expected * weight).sum()}, whole);
    for (size_t i = 0; i < 3; ++i)
      EXPECT_LT((a[i] - own(b[i], 2)).abs().max().item<double>(), 1e-12)
          << "input " << i << " window " << window;
    if (ranks_ == 1) return;
    const AttentionShape shape{kBatch, kHeads, kLength, kHeadDim, 8};
    EXPECT_EQ(forward,
              attention_bytes(algorithm, group_->rank(), ranks_, shape, window, StreamMemory::kNone));
    const int64_t backward = bytes(purpose::kAttention) - before - forward;
    EXPECT_EQ(backward, algorithm == AttentionAlgorithm::kHalo
                            ? halo_backward_bytes(group_->rank(), shape, window)
                            : forward);
  }
};

TEST_F(AttentionTest, AllToAllEqualsOneRankAndSendsWhatIsPredicted) {
  for (const int64_t window : {0, 5, 100})
    expect_equal(AttentionAlgorithm::kAllToAll, window,
                 [&](const Tensor& q, const Tensor& k, const Tensor& v) {
                   return all_to_all_attention(*group_, q, k, v, window);
                 });
}

TEST_F(AttentionTest, AllGatherEqualsOneRankAndSendsWhatIsPredicted) {
  for (const int64_t window : {0, 5, 100})
    expect_equal(AttentionAlgorithm::kAllGather, window,
                 [&](const Tensor& q, const Tensor& k, const Tensor& v) {
                   return all_gather_attention(*group_, q, k, v, window);
                 });
}

TEST_F(AttentionTest, HaloEqualsOneRankForWindowsBelowAndBeyondOneNeighbour) {
  for (const int64_t window : {1, 2, 5, 7, 8, 13, 100})
    expect_equal(AttentionAlgorithm::kHalo, window, [&](const Tensor& q, const Tensor& k, const Tensor& v) {
      return halo_attention(*group_, q, k, v, window, nullptr);
    });
}

TEST_F(AttentionTest, HaloBytesDoNotGrowWithTheRanks) {
  const AttentionShape shape{1, 4, 64, 8, 2};
  EXPECT_EQ(attention_bytes(AttentionAlgorithm::kHalo, 0, 2, shape, 17, StreamMemory::kNone),
            attention_bytes(AttentionAlgorithm::kHalo, 0, 64, shape, 17, StreamMemory::kNone));
  EXPECT_GT(attention_bytes(AttentionAlgorithm::kAllGather, 0, 64, shape, 0, StreamMemory::kNone),
            attention_bytes(AttentionAlgorithm::kAllGather, 0, 2, shape, 0, StreamMemory::kNone));
}

TEST_F(AttentionTest, ChoiceAndRefusals) {
  EXPECT_EQ(choose_attention_algorithm("auto", 4, 8, 16), AttentionAlgorithm::kHalo);
  EXPECT_EQ(choose_attention_algorithm("auto", 4, 8, 0), AttentionAlgorithm::kAllToAll);
  EXPECT_EQ(choose_attention_algorithm("auto", 4, 6, 0), AttentionAlgorithm::kAllGather);
  EXPECT_THROW(choose_attention_algorithm("all_to_all", 4, 6, 0), ConfigError);
  EXPECT_THROW(choose_attention_algorithm("halo", 4, 8, 0), ConfigError);
  EXPECT_THROW(choose_attention_algorithm("ring", 4, 8, 0), ConfigError);
}

class StateTest : public ShardedTest {
 protected:
  // Totals and carries of all ranks for two fast tensors; some carries are 0 (a document starts).
  void SetUp() override {
    ShardedTest::SetUp();
    if (ranks_ == 1) GTEST_SKIP() << "nothing to exchange on one rank";
    for (int r = 0; r < ranks_; ++r) {
      totals_.push_back({at::randn({kBatch, 3, 5}, at::kDouble), at::randn({kBatch, 7, 2}, at::kDouble)});
      carries_.push_back({at::rand({kBatch, 1, 1}, at::kDouble), at::rand({1, 1, 1}, at::kDouble)});
      if (r == 1) carries_.back()[0][0].zero_();
    }
  }

  // S_in of every rank and the gradients of this rank's inputs, by the definition, with autograd over all
  // ranks' numbers.
  void expect_equal(const std::string& algorithm, at::ScalarType wire, double tolerance) {
    const auto exchange = make_state_exchange(*group_, algorithm, wire);
    const auto rank = static_cast<size_t>(group_->rank());
    std::vector<Tensor> all;
    for (auto* inputs : {&totals_, &carries_})
      for (auto& of_rank : *inputs)
        for (Tensor& t : of_rank) all.push_back(t.requires_grad_(true));
    std::vector<Tensor> mine;
    for (const Tensor& t : {totals_[rank][0], totals_[rank][1], carries_[rank][0], carries_[rank][1]})
      mine.push_back(t.detach().clone().requires_grad_(true));
    exchange->start({{mine[0], mine[2]}, {mine[1], mine[3]}});
    const std::vector<Tensor> inbound = exchange->finish();

    at::manual_seed(9);
    Tensor expected_loss = at::zeros({}, at::kDouble), own_loss = expected_loss;
    for (size_t n = 0; n < 2; ++n) {
      Tensor state = at::zeros_like(totals_[0][n]);
      for (size_t r = 0; r < totals_.size(); ++r) {
        const Tensor weight = at::randn(state.sizes(), at::kDouble);
        expected_loss = expected_loss + (state * weight).sum();
        if (r == rank) {
          EXPECT_LT((inbound[n] - state).abs().max().item<double>(), tolerance) << algorithm;
          own_loss = own_loss + (inbound[n] * weight).sum();
        }
        state = carries_[r][n] * state + totals_[r][n];
      }
    }
    const auto a = torch::autograd::grad({own_loss}, mine);
    const auto b =
        torch::autograd::grad({expected_loss}, all, {}, std::nullopt, false, /*allow_unused=*/true);
    const auto of = [&](size_t i) { return b[i].defined() ? b[i] : at::zeros_like(all[i]); };
    const auto count = static_cast<size_t>(2 * ranks_);
    for (size_t n = 0; n < 2; ++n) {
      EXPECT_LT((a[n] - of(2 * rank + n)).abs().max().item<double>(), tolerance) << algorithm;
      EXPECT_LT((a[2 + n] - of(count + 2 * rank + n)).abs().max().item<double>(), tolerance) << algorithm;
    }
  }

  std::vector<std::vector<Tensor>> totals_, carries_;
};

TEST_F(StateTest, BothAlgorithmsGiveThePrefixAndItsGradient) {
  expect_equal("all_gather", at::kDouble, 1e-12);
  expect_equal("all_to_all", at::kDouble, 1e-12);
  expect_equal("auto", at::kDouble, 1e-12);
}

TEST_F(StateTest, StatesMayTravelInBfloat16) {
  expect_equal("all_gather", at::kBFloat16, 0.1);
  expect_equal("all_to_all", at::kBFloat16, 0.1);
}

TEST_F(StateTest, SendsThePredictedBytes) {
  for (const auto algorithm : {StateAlgorithm::kAllGather, StateAlgorithm::kAllToAll}) {
    for (const at::ScalarType wire : {at::kDouble, at::kBFloat16}) {
      const int64_t before = bytes(purpose::kState), elements = 3 * 5 + 7 * 2;
      const auto wire_bytes = static_cast<int64_t>(c10::elementSize(wire));
      expect_equal(name_of(algorithm), wire, 0.1);
      EXPECT_EQ(bytes(purpose::kState) - before,
                state_exchange_bytes(algorithm, ranks_, kBatch, elements, 2, wire_bytes, 8) +
                    state_exchange_bytes(algorithm, ranks_, kBatch, elements, 2, wire_bytes, 0));
    }
  }
}

TEST_F(StateTest, TheScansBytesDoNotGrowWithTheRanks) {
  const auto bytes_of = [](StateAlgorithm a, int ranks) {
    return state_exchange_bytes(a, ranks, 1, 1 << 20, 2, 4, 4);
  };
  EXPECT_LT(bytes_of(StateAlgorithm::kAllToAll, 64), 2.1 * 4 * (1 << 20));
  EXPECT_GT(bytes_of(StateAlgorithm::kAllGather, 64), 60.0 * 4 * (1 << 20));
  EXPECT_EQ(choose_state_algorithm("auto", 2, 1 << 30), StateAlgorithm::kAllGather);
  EXPECT_EQ(choose_state_algorithm("auto", 8, 1 << 30), StateAlgorithm::kAllToAll);
  EXPECT_EQ(choose_state_algorithm("auto", 8, 1000), StateAlgorithm::kAllGather);
  EXPECT_THROW(choose_state_algorithm("ring", 8, 1000), ConfigError);
}

}  // namespace
}  // namespace fwl
