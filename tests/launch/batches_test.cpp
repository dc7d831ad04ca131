#include "launch/batches.h"

#include <gtest/gtest.h>

namespace fwl {
namespace {

Batch small_batch() {
  Batch batch{2, 3, {1, 2, 3, 4, 5, 6, 7, 8}, {}, {}};
  batch.document_start = {0, 0, 0, 0, 0, 0};
  return batch;
}

TEST(Batches, InputsAndLabelsAreTheSameTokensOnePositionApart) {
  const TokenBatch batch = to_device(small_batch(), at::kCPU, at::kFloat);
  EXPECT_TRUE(at::equal(batch.input_bt, at::tensor({1, 2, 3, 5, 6, 7}, at::kLong).view({2, 3})));
  EXPECT_TRUE(at::equal(batch.label_bt, at::tensor({2, 3, 4, 6, 7, 8}, at::kLong).view({2, 3})));
  EXPECT_TRUE(at::equal(batch.weight_bt, at::ones({2, 3}, at::kFloat)));
  EXPECT_FALSE(batch.document_start_bt.defined()) << "no document starts inside";
}

TEST(Batches, LabelsThatAreLeftOutHaveWeightZeroInTheAccumulationType) {
  Batch host = small_batch();
  host.left_out = {0, 1, 0, 0, 0, 1};
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    const TokenBatch batch = to_device(host, at::kCPU, type);
    EXPECT_TRUE(at::equal(batch.weight_bt, at::tensor({1, 0, 1, 1, 1, 0}, type).view({2, 3}))) << type;
  }
}

TEST(Batches, DocumentStartsAreFlags) {
  Batch host = small_batch();
  host.document_start[4] = 1;
  const Tensor starts_bt = to_device(host, at::kCPU, at::kFloat).document_start_bt;
  EXPECT_TRUE(at::equal(starts_bt, at::tensor({0, 0, 0, 0, 1, 0}, at::kLong).view({2, 3}).to(at::kBool)));
}

}  // namespace
}  // namespace fwl
