// The same functions on the GPU and the CPU: kernels, layer, attention, a training step.
#include <gtest/gtest.h>

#include <cstdio>

#include "core/base/device.h"
#include "core/fast_weight/layer.h"
#include "core/kernels/matmul.h"
#include "core/kernels/softmax_rows.h"
#include "core/model/attention.h"
#include "core/optim/adamw.h"
#include "tests/support/layer_case.h"
#include "tests/support/small_model.h"

namespace fwl {
namespace {

class OnGpu : public testing::Test {
 protected:
  void SetUp() override {
    if (cuda_device_count() > 0) return;
    std::puts("SKIPPED: no GPU");
    GTEST_SKIP();
  }
};

double relative(const Tensor& a, const Tensor& b) {
  const Tensor x = a.cpu().to(at::kDouble), y = b.cpu().to(at::kDouble);
  return (x - y).abs().max().item<double>() / y.abs().max().item<double>();
}

TEST_F(OnGpu, SoftmaxKernelsEqualTheCpuInEveryType) {
  at::manual_seed(2);
  const int64_t rows = 37;
  // No whole vectors; whole vectors in shared memory; rows that do not fit there (but in bfloat16).
  for (const int64_t vocabulary : {5003, 5008, 60000}) {
    const Tensor logits = at::randn({rows, vocabulary}, at::kDouble) * 4,
                 bar = at::randn({rows, vocabulary}, at::kDouble);
    const Tensor label = at::randint(vocabulary, {rows}, at::TensorOptions().dtype(at::kLong));
    const Tensor weight = at::rand({rows}, at::kDouble), nll_bar = at::randn({rows}, at::kDouble);
    for (const auto& [type, tolerance] : std::vector<std::pair<at::ScalarType, double>>{
             {at::kDouble, 1e-12}, {at::kFloat, 1e-5}, {at::kBFloat16, 2e-2}}) {
      const auto accumulate = accumulate_type(type);
      // Both sides start from values rounded to the type.
      Tensor cpu_logits = logits.to(type).to(at::kDouble).clone(),
             cpu_bar = bar.to(type).to(at::kDouble).clone();
      Tensor gpu_logits = logits.to(type).cuda(), gpu_bar = bar.to(type).cuda();
      Tensor scratch = cpu_logits.clone();
      const Tensor nll = cross_entropy_gradient_(scratch, label, weight);
      cross_entropy_gradient_backward_(cpu_logits, cpu_bar, label, weight, nll, nll_bar);
      cross_entropy_gradient_backward_(gpu_logits, gpu_bar, label.cuda(), weight.to(accumulate).cuda(),
                                       nll.to(accumulate).cuda(), nll_bar.to(accumulate).cuda());
      EXPECT_LT(relative(gpu_bar, cpu_bar), tolerance) << type;
      EXPECT_LT(relative(gpu_logits, cpu_logits), tolerance) << type;
      Tensor cpu_kept = bar.to(type).to(at::kDouble).clone(), gpu_kept = bar.to(type).cuda();
      const Tensor ones = at::ones_like(weight);
      Tensor residual = logits.to(type).to(at::kDouble).clone();
      cross_entropy_gradient_(residual, label, ones);
      residual = residual.to(type).to(at::kDouble);
      cross_entropy_residual_backward_(residual, cpu_kept, label, weight, nll_bar);
      cross_entropy_residual_backward_(residual.to(type).cuda(), gpu_kept, label.cuda(),
                                       weight.to(accumulate).cuda(), nll_bar.to(accumulate).cuda());
      EXPECT_LT(relative(gpu_kept, cpu_kept), tolerance) << type;
      EXPECT_LT(relative(gpu_kept, gpu_bar), type == at::kBFloat16 ? 5e-2 : tolerance) << type;
      Tensor cpu_again = logits.to(type).to(at::kDouble).clone(), gpu_again = logits.to(type).cuda();
      const Tensor cpu_nll = cross_entropy_gradient_(cpu_again, label, weight);
      const Tensor gpu_nll = cross_entropy_gradient_(gpu_again, label.cuda(), weight.to(accumulate).cuda());
      EXPECT_LT(relative(gpu_nll, cpu_nll), type == at::kDouble ? 1e-12 : 1e-5) << type;
      EXPECT_LT(relative(gpu_again, cpu_again), tolerance) << type;
      EXPECT_LT(relative(cross_entropy(logits.to(type).cuda(), label.cuda()), cpu_nll),
                type == at::kDouble ? 1e-12 : 1e-5)
          << type;
    }
  }
}

TEST_F(OnGpu, FlashWindowEqualsTheBlockedWindow) {
  at::manual_seed(3);
  std::vector<Tensor> wide, narrow;
  for (int i = 0; i < 3; ++i) {
    wide.push_back(at::randn({2, 4, 300, 64}, at::TensorOptions().dtype(at::kFloat))
                       .to(at::kBFloat16)
                       .to(at::kDouble)
                       .cuda()
                       .requires_grad_(true));
    narrow.push_back(wide.back().detach().to(at::kBFloat16).requires_grad_(true));
  }
  const Tensor expected = causal_attention(wide[0], wide[1], wide[2], 100);
  const Tensor flash = causal_attention(narrow[0], narrow[1], narrow[2], 100);
  EXPECT_LT(relative(flash, expected), 2e-2);
  const auto a = torch::autograd::grad({expected.sum()}, wide),
             b = torch::autograd::grad({flash.sum()}, narrow);
  for (int i = 0; i < 3; ++i) EXPECT_LT(relative(b[i], a[i]), 5e-2) << "input " << i;
}

TEST_F(OnGpu, FlashQueriesOfTheLastPositionsSeeTheKeysBeforeThem) {
  at::manual_seed(4);
  for (const int64_t window : {0, 100}) {
    std::vector<Tensor> wide, narrow;
    for (const int64_t length : {200, 299, 299}) {
      wide.push_back(at::randn({2, 4, length, 64}, at::TensorOptions().dtype(at::kFloat))
                         .to(at::kBFloat16)
                         .to(at::kDouble)
                         .cuda()
                         .requires_grad_(true));
      narrow.push_back(wide.back().detach().to(at::kBFloat16).requires_grad_(true));
    }
    const Tensor expected = causal_attention(wide[0], wide[1], wide[2], window);
    const Tensor flash = causal_attention(narrow[0], narrow[1], narrow[2], window);
    EXPECT_LT(relative(flash, expected), 2e-2) << "window " << window;
    const auto a = torch::autograd::grad({expected.sum()}, wide),
               b = torch::autograd::grad({flash.sum()}, narrow);
    for (int i = 0; i < 3; ++i)
      EXPECT_LT(relative(b[i], a[i]), 5e-2) << "input " << i << " window " << window;
  }
}

TEST_F(OnGpu, TrainingStepEqualsTheCpuInFloat64AndFloat32) {
  const ModelConfig config = small_model_config();
  for (const auto& [type, tolerance] :
       std::vector<std::pair<at::ScalarType, double>>{{at::kDouble, 1e-10}, {at::kFloat, 1e-4}}) {
    LanguageModel cpu(config, at::kCPU, type, 5), gpu(config, choose_device("cuda", 0), type, 5);
    const TokenBatch batch = random_batch(config, 2, config.context, type, 8, {0, 9});
    const TokenBatch on_gpu{batch.input_bt.cuda(), batch.label_bt.cuda(), batch.weight_bt.cuda(),
                            batch.document_start_bt.cuda()};
    const TrainingLoss a = cpu.training_loss(batch, 1.0 / 48), b = gpu.training_loss(on_gpu, 1.0 / 48);
    EXPECT_LT(relative(b.objective, a.objective), tolerance);
    cpu.parameters().backward(a.objective);
    gpu.parameters().backward(b.objective);
    EXPECT_LT(relative(gpu.parameters().gradients(), cpu.parameters().gradients()), tolerance) << type;
    for (LanguageModel* model : {&cpu, &gpu})
      AdamW(model->parameters(), {})
          .step(1e-3, clipped_scale(global_norm(model->parameters().gradients()), 0.5));
    EXPECT_LT(relative(gpu.parameters().values(), cpu.parameters().values()), 10 * tolerance) << type;
  }
}

TEST_F(OnGpu, Bfloat16StaysNearFloat64) {
  ModelConfig config = small_model_config();
  config.width = 32;
  config.fast_weight.step_size_init = 1;
  LanguageModel wide(config, choose_device("cuda", 0), at::kDouble, 5),
      narrow(config, choose_device("cuda", 0), at::kBFloat16, 5);
  const TokenBatch batch = random_batch(config, 4, config.context, at::kFloat, 8);
  const TokenBatch low{batch.input_bt.cuda(), batch.label_bt.cuda(), batch.weight_bt.cuda(), {}};
  const TokenBatch high{low.input_bt, low.label_bt, low.weight_bt.to(at::kDouble), {}};
  EXPECT_LT(relative(narrow.token_losses(low, Pass::kFast), wide.token_losses(high, Pass::kFast)), 2e-2);
}

}  // namespace
}  // namespace fwl
