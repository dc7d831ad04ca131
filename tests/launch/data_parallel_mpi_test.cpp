// N ranks compute the step of one rank: the same global batch, loss and every parameter's gradient.
#include <gtest/gtest.h>

#include <algorithm>

#include "core/model/language_model.h"
#include "parallel/gradient_reducer.h"
#include "parallel/session.h"
#include "tests/support/small_model.h"

namespace fwl {
namespace {

TokenBatch rows_of(const TokenBatch& batch, int64_t first, int64_t count) {
  const auto part = [&](const Tensor& t) { return t.defined() ? t.narrow(0, first, count) : t; };
  return {part(batch.input_bt), part(batch.label_bt), part(batch.weight_bt), part(batch.document_start_bt)};
}

// Accumulates the gradient of rows [first, first + count) in micro-batches of `micro` rows.
double accumulate(LanguageModel& model, const TokenBatch& batch, int64_t first, int64_t count, int64_t micro,
                  double scale) {
  double loss = 0;
  for (int64_t done = 0; done < count; done += micro) {
    const Tensor objective =
        model.training_loss(rows_of(batch, first + done, std::min(micro, count - done)), scale).objective;
    model.parameters().backward(objective);
    loss += objective.item<double>();
  }
  return loss;
}

void expect_parallel_equals_serial(at::ScalarType dtype, double tolerance, int64_t micro) {
  const int ranks = world().size, rank = world().rank;
  const ModelConfig config = small_model_config();
  LanguageModel serial(config, at::kCPU, dtype, 4), parallel(config, at::kCPU, dtype, 4);
  TokenBatch batch = random_batch(config, 8, config.context, serial.accumulation_type(), 6, {0, 11});
  batch.weight_bt = batch.weight_bt.clone();
  batch.weight_bt[0].zero_();  // a sequence without scored tokens, and ranks with different counts
  batch.weight_bt[3].narrow(0, 0, 5).zero_();
  const double scale = 1.0 / batch.weight_bt.sum().item<double>();
  const double serial_loss = accumulate(serial, batch, 0, 8, 8, scale);

  const auto group = make_world_communicator(60);
  GradientReducer reducer(*group, parallel.parameters().gradients(), {.bucket_bytes = 4096});
  const int64_t share = 8 / ranks;
  Tensor loss = at::full({1}, accumulate(parallel, batch, rank * share, share, micro, scale), at::kDouble);
  reducer.reduce();
  group->all_reduce_sum(loss);
  EXPECT_NEAR(loss.item<double>(), serial_loss, tolerance * std::abs(serial_loss));
  for (size_t i = 0; i < serial.parameters().all().size(); ++i) {
    const Parameter &a = serial.parameters().all()[i], &b = parallel.parameters().all()[i];
    const double largest = a.value.grad().abs().max().item<double>();
    EXPECT_LE((a.value.grad() - b.value.grad()).abs().max().item<double>(), tolerance * largest) << a.name;
  }
}

TEST(DataParallel, GradientsEqualThoseOfOneRankInFloat32) {
  expect_parallel_equals_serial(at::kFloat, 1e-5, 8);
}
TEST(DataParallel, GradientsEqualThoseOfOneRankInFloat64) {
  expect_parallel_equals_serial(at::kDouble, 1e-12, 8);
}
TEST(DataParallel, GradientAccumulationChangesNothing) {
  expect_parallel_equals_serial(at::kDouble, 1e-12, 1);
}

}  // namespace
}  // namespace fwl
