// The fused kernels on the GPU against their ATen form on the CPU in float64: values and gradients.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstdio>
#include <functional>

#include "core/base/device.h"
#include "core/base/error.h"
#include "core/fast_weight/linear_attention.h"
#include "core/fast_weight/loss_head.h"
#include "core/fast_weight/norm_gradient.h"
#include "core/kernels/activation.h"
#include "core/kernels/adamw_update.h"
#include "core/kernels/float8_product.h"
#include "core/kernels/fused_attention.h"
#include "core/kernels/fused_products.h"
#include "core/kernels/likely_gradient.h"
#include "core/kernels/likely_hessian.h"
#include "core/kernels/matmul.h"
#include "core/kernels/norm.h"
#include "core/kernels/softmax_rows.h"
#include "core/kernels/state_scan.h"
#include "core/kernels/step_rows.h"
#include "core/kernels/token_sums.h"
#include "core/model/attention.h"
#include "core/model/projections.h"
#include "tests/support/likely_lists.h"

namespace fwl {
namespace {

class KernelsOnGpu : public testing::Test {
 protected:
  void SetUp() override {
    if (cuda_device_count() > 0) return;
    std::puts("SKIPPED: no GPU");
    GTEST_SKIP();
  }
};

// Norm of the difference relative to the norm of the reference.
double distance(const Tensor& a, const Tensor& reference) {
  const Tensor x = a.detach().cpu().to(at::kDouble), y = reference.detach().cpu().to(at::kDouble);
  return (x - y).norm().item<double>() / (y.norm().item<double>() + 1e-30);
}

const std::vector<std::pair<at::ScalarType, double>> kTypes = {
    {at::kDouble, 1e-12}, {at::kFloat, 1e-5}, {at::kBFloat16, 2e-2}};

using Operation = std::function<std::vector<Tensor>(const std::vector<Tensor>&)>;

// Outputs and the gradients of all inputs, for fixed cotangents.
std::vector<Tensor> values_and_gradients(const Operation& operation, const std::vector<Tensor>& inputs,
                                         at::ScalarType type, at::Device device) {
  std::vector<Tensor> leaves;
  for (const Tensor& x : inputs) leaves.push_back(x.to(type).to(device).detach().requires_grad_(true));
  std::vector<Tensor> results = operation(leaves);
  Tensor sum = at::zeros({}, at::TensorOptions().dtype(at::kDouble).device(device));
  for (const Tensor& y : results) {
    at::manual_seed(11);
    const Tensor cotangent = at::randn(y.sizes(), at::kDouble).to(type).to(at::kDouble).to(device);
    sum = sum + (y.to(at::kDouble) * cotangent).sum();
  }
  sum.backward();
  for (const Tensor& x : leaves) results.push_back(x.grad());
  return results;
}

void expect_equal_to_cpu(const Operation& operation, const std::vector<Tensor>& inputs, const char* name) {
  for (const auto& [type, tolerance] : kTypes) {
    std::vector<Tensor> rounded;
    for (const Tensor& x : inputs) rounded.push_back(x.to(type).to(at::kDouble));
    const auto cpu = values_and_gradients(operation, rounded, at::kDouble, at::kCPU);
    const auto gpu = values_and_gradients(operation, rounded, type, at::kCUDA);
    ASSERT_EQ(cpu.size(), gpu.size());
    for (size_t i = 0; i < cpu.size(); ++i)
      EXPECT_LT(distance(gpu[i], cpu[i]), tolerance) << name << ", " << type << ", tensor " << i;
  }
}

Tensor random(at::IntArrayRef shape) {
  return at::randn(shape, at::kDouble);
}

TEST_F(KernelsOnGpu, AddNormEqualsTheCpuForEveryWidth) {
  at::manual_seed(5);
  for (const int64_t width : {8, 64, 192, 512, 768, 1000, 1600, 3072}) {
    const std::vector<Tensor> inputs = {random({3, 29, width}), random({3, 29, width}), random({width}),
                                        random({width})};
    expect_equal_to_cpu(
        [](const std::vector<Tensor>& x) {
          const AddNorm y = add_norm(x[0], x[1], x[2], x[3], 1e-5);
          return std::vector<Tensor>{y.norm, y.sum};
        },
        inputs, "layer norm with addition");
    expect_equal_to_cpu(
        [](const std::vector<Tensor>& x) {
          return std::vector<Tensor>{add_norm(x[0], {}, x[1], {}, 1e-5).norm};
        },
        {inputs[0], inputs[2]}, "rms norm");
  }
}

// A weight where no vector of 16 bytes begins, as parts of the flat parameters may lie.
Tensor moved_by_three(const Tensor& x) {
  const Tensor all = at::cat({at::zeros({3}, x.options().requires_grad(false)), x.flatten()});
  return all.narrow(0, 3, x.numel()).view(x.sizes());
}

TEST_F(KernelsOnGpu, TensorsMayBeginAnywhere) {
  at::manual_seed(10);
  const std::vector<Tensor> inputs = {random({2, 9, 64}), random({2, 9, 64}), random({64}), random({64})};
  expect_equal_to_cpu(
      [](const std::vector<Tensor>& x) {
        const AddNorm y = add_norm(moved_by_three(x[0]), moved_by_three(x[1]), moved_by_three(x[2]),
                                   moved_by_three(x[3]), 1e-5);
        return std::vector<Tensor>{y.norm, y.sum};
      },
      inputs, "layer norm with addition");
  expect_equal_to_cpu(
      [](const std::vector<Tensor>& x) {
        return std::vector<Tensor>{
            layer_norm_gradient(moved_by_three(x[0]), moved_by_three(x[2]), moved_by_three(x[1]), 1e-5),
            squared_relu_gradient(moved_by_three(x[0]), moved_by_three(x[1])),
            activation(Activation::kGelu, moved_by_three(x[0]))};
      },
      {inputs[0], inputs[1], inputs[2]}, "norm gradient and activations");
}

// Rows that are staged and such that are not, vectors and single elements, one list of tokens and many.
TEST_F(KernelsOnGpu, LikelyGradientEqualsTheCpu) {
  at::manual_seed(12);
  struct Shape {
    int64_t vocabulary, width;
    double spread, threshold;
  };
  for (const Shape& s : {Shape{1000, 64, 2, 1e-3}, Shape{1001, 63, 2, 1e-3}, Shape{16384, 512, 3, 1e-4},
                         Shape{50304, 768, 3, 1e-3}, Shape{50304, 768, 0.5, 1e-7}, Shape{500, 8192, 1, 1e-4},
                         Shape{120000, 64, 1, 1e-6}}) {
    const Tensor logits_nv = random({9, s.vocabulary}) * s.spread,
                 weight_vd = random({s.vocabulary, s.width}), rest_row_d = random({s.width}),
                 weight_n = random({9}).abs(), label_n = at::randint(s.vocabulary, {9}, at::kLong);
    for (const auto& [type, tolerance] : kTypes) {
      const auto on = [&](at::ScalarType to, at::Device device) {
        return likely_gradient(logits_nv.to(type).to(to).to(device), label_n.to(device),
                               weight_vd.to(type).to(to).to(device),
                               rest_row_d.to(at::kFloat).to(accumulate_type(to)).to(device), s.threshold,
                               weight_n.to(at::kFloat).to(accumulate_type(to)).to(device));
      };
      const LikelyGradient cpu = on(at::kDouble, at::kCPU), gpu = on(type, at::kCUDA),
                           again = on(type, at::kCUDA);
      EXPECT_LT(distance(gpu.gradient_nd, cpu.gradient_nd), tolerance) << type << ", V " << s.vocabulary;
      EXPECT_LT(distance(gpu.nll_n, cpu.nll_n), 1e-5) << type << ", V " << s.vocabulary;
      EXPECT_LT((gpu.rest_n.cpu().to(at::kDouble) - cpu.rest_n).abs().max().item<double>(), 1e-4);
      // A token whose probability is the threshold to rounding may fall on either side.
      EXPECT_LE((gpu.kept_n.cpu() - cpu.kept_n).abs().max().item<int>(), type == at::kDouble ? 0 : 2);
      EXPECT_TRUE(at::equal(gpu.gradient_nd, again.gradient_nd)) << "the same bits twice";
    }
  }
}

// Multiplied in 8 bits where both sides are multiples of 16, else rounded and multiplied in bfloat16; large
// entries of x, and a row of zeros.
TEST_F(KernelsOnGpu, Float8ProductsEqualTheCpu) {
  at::manual_seed(14);
  const at::NoGradGuard no_grad;
  struct Shape {
    int64_t rows, vocabulary, width;
  };
  for (const Shape& s :
       {Shape{1, 64, 16}, Shape{37, 1000, 64}, Shape{33, 16384, 512}, Shape{300, 50304, 768}}) {
    Tensor x_nd = random({s.rows, s.width}) * 4, weight_vd = random({s.vocabulary, s.width}) * 0.02;
    x_nd.view({-1})[0] = 1000;
    weight_vd.select(0, 1).zero_();
    const auto on = [&](at::ScalarType type, at::Device device) {
      const Tensor x = x_nd.to(at::kBFloat16).to(type).to(device),
                   weight = weight_vd.to(at::kBFloat16).to(type).to(device);
      if (device.is_cuda()) {
        const bool whole = s.vocabulary % 16 == 0;
        EXPECT_EQ(multiplies_float8(weight), whole && gpu_multiplies_float8(weight.device()));
      }
      Tensor out_nv = at::empty({s.rows, s.vocabulary}, x.options());
      float8_product_out(out_nv, x, float8_rows(weight));
      return out_nv;
    };
    const Tensor gpu = on(at::kBFloat16, at::kCUDA);
    EXPECT_LT(distance(gpu, on(at::kDouble, at::kCPU)), 1e-2) << s.vocabulary << " x " << s.width;
    EXPECT_TRUE(at::equal(gpu, on(at::kBFloat16, at::kCUDA))) << "the same bits twice";
  }
}

// A row of weight 0, lists that are short and long, vectors and single elements.
TEST_F(KernelsOnGpu, LikelyHessianAndItsProductsEqualTheCpu) {
  at::manual_seed(13);
  struct Shape {
    int64_t vocabulary, width;
    double spread, threshold;
  };
  for (const Shape& s : {Shape{40, 24, 1, 1e-2}, Shape{1001, 63, 2, 1e-3}, Shape{16384, 512, 3, 1e-2},
                         Shape{50304, 768, 3, 1e-2}, Shape{50304, 768, 2, 1e-4}, Shape{500, 8192, 2, 1e-2},
                         Shape{120000, 64, 3, 1e-3}}) {
    const int64_t rows = 33;
    const Tensor label_n = at::randint(s.vocabulary, {rows}, at::kLong),
                 logits_nv = random({rows, s.vocabulary}) * s.spread, u_nd = random({rows, s.width}),
                 q_nd = random({rows, s.width}), x_nd = random({rows, s.width}),
                 weight_vd = random({s.vocabulary, s.width}), nll_bar_n = random({rows});
    Tensor weight_n = at::rand({rows}, at::kDouble);
    weight_n[7] = 0;
    for (const auto& [type, tolerance] : kTypes) {
      SCOPED_TRACE(cat(type, ", V ", s.vocabulary));
      // Of the same rounded numbers on both devices: {nll, errors}, and the lists.
      const auto listed = [&](at::ScalarType to, at::Device device) {
        Tensor errors_nv = logits_nv.to(type).to(to).to(device, /*non_blocking=*/false, /*copy=*/true);
        const LikelyTokens likely = room_for_likely_tokens(rows, s.vocabulary, s.threshold, errors_nv);
        const Tensor nll_n = cross_entropy_errors_(errors_nv, label_n.to(device), s.threshold, likely);
        return std::pair(std::vector<Tensor>{nll_n, errors_nv}, likely);
      };
      const auto [cpu_rows, lists] = listed(at::kDouble, at::kCPU);
      const auto [gpu_rows, gpu_lists] = listed(type, at::kCUDA);
      for (size_t i = 0; i < cpu_rows.size(); ++i)
        EXPECT_LT(distance(gpu_rows[i], cpu_rows[i]), i == 0 ? 1e-5 : tolerance) << i;
      expect_same_lists(gpu_lists, lists, s.vocabulary, s.threshold);
      const LikelyTokens& given = lists;
      const auto on = [&](at::ScalarType to, at::Device device) {
        const auto moved = [&](const Tensor& x) { return x.to(type).to(to).to(device); };
        const auto wide = accumulate_type(to);
        const auto moved_wide = [&](const Tensor& x) { return x.to(at::kFloat).to(wide).to(device); };
        const LikelyHessian h = likely_hessian({given.token_nk.to(device), moved_wide(given.probability_nk)},
                                               {moved(x_nd), moved(u_nd), moved(q_nd), label_n.to(device),
                                                moved_wide(weight_n), moved_wide(nll_bar_n)},
                                               moved(weight_vd));
        Tensor sum_vd = at::ones({s.vocabulary, s.width}, at::TensorOptions().dtype(wide).device(device));
        add_token_sums_(sum_vd, h.token_nk, h.h_nk, moved(x_nd));
        return std::vector<Tensor>{h.x_bar_nd, h.factor_nd, h.h_nk, sum_vd, h.weight_bar_n};
      };
      const auto cpu = on(at::kDouble, at::kCPU), gpu = on(type, at::kCUDA), again = on(type, at::kCUDA);
      for (size_t i = 0; i < cpu.size(); ++i) {
        EXPECT_LT(distance(gpu[i], cpu[i]), tolerance) << i;
        EXPECT_TRUE(at::equal(gpu[i], again[i])) << "the same bits twice";
      }
      EXPECT_EQ(gpu[2][7].abs().max().item<double>(), 0) << "a row of weight 0";
    }
  }
}

TEST_F(KernelsOnGpu, AdamWEqualsTheCpu) {
  at::manual_seed(16);
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    for (const int64_t count : {1003, 1 << 20, 40'000'004}) {
      std::vector<Tensor> cpu, gpu;
      for (int i = 0; i < 4; ++i) {
        cpu.push_back(at::randn({count}, at::kFloat).abs().to(type));
        gpu.push_back(cpu.back().cuda());
      }
      const Tensor copy = at::zeros({count}, at::kBFloat16), gpu_copy = copy.cuda();
      const auto progress = [](at::Device device) {
        const auto number = [&](double x) {
          return at::full({}, x, at::TensorOptions(at::kFloat).device(device));
        };
        return AdamWProgress{number(3), number(2.5), number(0)};
      };
      const AdamWRates rates{0.01, 0.9, 0.95, 1e-8, 0.1};
      adamw_update_(cpu[0], cpu[1], cpu[2], cpu[3], copy, progress(at::kCPU), rates);
      adamw_update_(gpu[0], gpu[1], gpu[2], gpu[3], gpu_copy, progress(at::kCUDA), rates);
      for (const size_t i : {0, 2, 3})
        EXPECT_LT(distance(gpu[i], cpu[i]), type == at::kFloat ? 1e-6 : 1e-12) << type << ", " << count;
      EXPECT_TRUE(at::equal(gpu_copy, gpu[0].to(at::kBFloat16)));
    }
  }
}

Tensor widened(const Tensor& x) {
  return x.to(accumulate_type(x.scalar_type()));
}

// A scale that the rows' type would round.
TEST_F(KernelsOnGpu, AStepSizeIsUsedInTheAccumulationType) {
  const auto cuda = at::TensorOptions().device(at::kCUDA);
  const Tensor ones = at::ones({9, 64}, cuda.dtype(at::kBFloat16));
  for (const Tensor& scale : {at::full({64}, 1 + 0x1p-10, cuda.dtype(at::kFloat)),
                              at::full({}, 1 + 0x1p-10, cuda.dtype(at::kFloat))})
    EXPECT_TRUE(at::equal(step_rows(ones, ones, scale).to(at::kDouble),
                          at::full({9, 64}, -0x1p-10, cuda.dtype(at::kDouble))))
        << scale.dim();
}

// Kept residuals of no token were one block of no length: a division by zero.
TEST_F(KernelsOnGpu, LossHeadsTakeABatchOfNoToken) {
  const auto cuda = at::TensorOptions().device(at::kCUDA).dtype(at::kFloat);
  const Tensor weight_vd = at::randn({40, 16}, cuda).requires_grad_(true);
  const Tensor label_n = at::empty({0}, cuda.dtype(at::kLong)), weight_n = at::empty({0}, cuda);
  for (const double threshold : {0.0, 0.01, 1.0}) {
    const Tensor x_nd = at::empty({0, 16}, cuda).requires_grad_(true);
    const InnerLoss inner = inner_loss(x_nd, {weight_vd, {}}, label_n, weight_n, Residuals::kKept, threshold);
    const OuterLoss outer = outer_loss(x_nd, {weight_vd, {}}, label_n, weight_n);
    const auto bars =
        torch::autograd::grad({inner.nll_n.sum() + inner.gradient_nd.sum() + outer.total}, {x_nd, weight_vd});
    EXPECT_EQ(bars[0].numel(), 0);
    EXPECT_EQ(bars[1].abs().max().item<float>(), 0) << threshold;
  }
}

TEST_F(KernelsOnGpu, SteppedRowsEqualTheCpu) {
  at::manual_seed(17);
  for (const int64_t width : {16, 36, 768, 3072}) {
    expect_equal_to_cpu(
        [](const std::vector<Tensor>& x) {
          return std::vector<Tensor>{step_rows(x[0], x[1], widened(x[2]))};
        },
        {random({5, 301, width}), random({5, 301, width}), random({width})}, "stepped rows");
  }
  expect_equal_to_cpu(
      [](const std::vector<Tensor>& x) {
        return std::vector<Tensor>{
            step_rows(moved_by_three(x[0]), moved_by_three(x[1]), moved_by_three(widened(x[2])))};
      },
      {random({9, 64}), random({9, 64}), random({64})}, "stepped rows that begin anywhere");
}

TEST_F(KernelsOnGpu, NormGradientAndItsBackwardEqualTheCpu) {
  at::manual_seed(6);
  for (const int64_t width : {64, 768}) {
    expect_equal_to_cpu(
        [](const std::vector<Tensor>& x) {
          return std::vector<Tensor>{layer_norm_gradient(x[0], x[1], x[2], 1e-5)};
        },
        {random({2500, width}), random({width}), random({2500, width})}, "norm gradient");
  }
}

TEST_F(KernelsOnGpu, FeedForwardEqualsTheCpu) {
  at::manual_seed(7);
  for (const Activation kind : {Activation::kSquaredRelu, Activation::kGelu}) {
    expect_equal_to_cpu(
        [&](const std::vector<Tensor>& x) {
          return std::vector<Tensor>{feed_forward(x[0], {x[1], x[2]}, {x[3], x[4]}, kind)};
        },
        {random({2, 9, 24}), random({40, 24}), random({40}), random({16, 40}), random({16})}, "feed forward");
  }
  expect_equal_to_cpu(
      [](const std::vector<Tensor>& x) { return std::vector<Tensor>{squared_relu_gradient(x[0], x[1])}; },
      {random({7, 33}), random({7, 33})}, "gradient of squared relu");
}

// bfloat16 alone, and enough tokens: the squared ReLU in the products' epilogue.
TEST_F(KernelsOnGpu, FeedForwardOfFusedProductsEqualsTheCpu) {
  at::manual_seed(17);
  struct Shape {
    int64_t batch, length, width, hidden;
  };
  for (const Shape& s : std::vector<Shape>{{4, 1024, 64, 256}, {2, 2560, 512, 640}, {2, 2048, 768, 3072}}) {
    SCOPED_TRACE(cat(s.batch, " x ", s.length, ", width ", s.width, ", hidden ", s.hidden));
    const auto random_in = [](at::IntArrayRef sizes, double spread) {
      return (at::randn(sizes) * spread).to(at::kBFloat16);
    };
    const double in = 1 / std::sqrt(static_cast<double>(s.width)),
                 out = 1 / std::sqrt(static_cast<double>(s.hidden));
    const std::vector<Tensor> inputs = {random_in({s.batch, s.length, s.width}, 1),
                                        random_in({s.hidden, s.width}, in),
                                        random_in({s.width, s.hidden}, out)};
    const Tensor bar = random_in({s.batch, s.length, s.width}, 1);
    const auto run = [&](at::TensorOptions options) {
      std::vector<Tensor> leaves;
      for (const Tensor& x : inputs) leaves.push_back(x.to(options).detach().requires_grad_(true));
      std::vector<Tensor> results = {
          feed_forward(leaves[0], {leaves[1], {}}, {leaves[2], {}}, Activation::kSquaredRelu)};
      results[0].backward(bar.to(options));
      for (const Tensor& x : leaves) results.push_back(x.grad());
      return results;
    };
    const auto cuda = at::TensorOptions().device(at::kCUDA).dtype(at::kBFloat16);
    const bool has = has_fused_products(inputs[0].to(cuda).flatten(0, 1), inputs[1].to(cuda));
    ASSERT_EQ(has, FWL_HAVE_CUDNN == 1);
    if (!has) GTEST_SKIP() << "a build without cuDNN's frontend headers";
    const std::vector<Tensor> found = run(cuda), again = run(cuda),
                              expected = run(at::TensorOptions().dtype(at::kDouble));
    for (size_t i = 0; i < found.size(); ++i) {
      EXPECT_LT(distance(found[i], expected[i]), 0.01) << "result " << i;
      EXPECT_TRUE(at::equal(found[i], again[i])) << "result " << i;
    }
    // Weights where no vector of 16 bytes begins.
    const Tensor moved =
        at::cat({at::zeros({3}, cuda), inputs[1].to(cuda).flatten()}).narrow(0, 3, inputs[1].numel());
    const Tensor x_nd = inputs[0].to(cuda).flatten(0, 1);
    EXPECT_TRUE(at::equal(squared_relu_product(x_nd, moved.view_as(inputs[1])),
                          squared_relu_product(x_nd, inputs[1].to(cuda))));
    EXPECT_FALSE(has_fused_products(x_nd.narrow(0, 0, 4000), inputs[1].to(cuda)));
    EXPECT_TRUE(has_fused_products(x_nd.narrow(0, 0, 4096), inputs[1].to(cuda)));
  }
}

// Without gradient: rows behind the last multiple of 1,024 are computed apart.
TEST_F(KernelsOnGpu, FusedProductsTakeAnyNumberOfTokensWithoutGradient) {
  at::manual_seed(19);
  const auto cuda = at::TensorOptions().device(at::kCUDA).dtype(at::kBFloat16);
  const Tensor x_nd = at::randn({4096 + 333, 512}).to(cuda), up_fd = (at::randn({640, 512}) / 22).to(cuda);
  ASSERT_FALSE(has_fused_products(x_nd, up_fd)) << "its gradient takes whole multiples";
  const at::NoGradGuard no_grad;
  if (!has_fused_products(x_nd, up_fd)) GTEST_SKIP() << "a build without cuDNN's frontend headers";
  const auto wide = [](const Tensor& x) { return x.cpu().to(at::kDouble); };
  const Tensor expected_nf = at::relu(at::mm(wide(x_nd), wide(up_fd).t())).square();
  const Tensor found_nf = squared_relu_product(x_nd, up_fd);
  for (const auto& [first, count] : std::vector<std::pair<int64_t, int64_t>>{{0, 4096}, {4096, 333}})
    EXPECT_LT(distance(found_nf.narrow(0, first, count), expected_nf.narrow(0, first, count)), 0.01) << first;
}

TEST_F(KernelsOnGpu, ProjectionWithRotaryPositionsEqualsTheCpu) {
  at::manual_seed(8);
  for (const int64_t head_dim : {6, 16, 64}) {
    for (const bool rotary : {true, false}) {
      expect_equal_to_cpu(
          [&](const std::vector<Tensor>& x) {
            RotaryTable table;
            const auto type = x[0].scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
            if (rotary) table = rotary_table(3, 10, head_dim, 10000, x[0].options().dtype(type));
            const AttentionInputs in = project_qkv(x[0], {x[1], x[2]}, 2, table);
            return std::vector<Tensor>{in.q_bhte, in.k_bhte, in.v_bhte};
          },
          {random({2, 10, 24}), random({6 * head_dim, 24}), random({6 * head_dim})}, "qkv");
    }
  }
}

// Queries as a part of a projection; keys and values too, or on their own where `keys` are more than
// `length`.
struct AttentionCase {
  std::vector<Tensor> leaves;
  Tensor q, k, v;
  AttentionCase(const Tensor& projection, const Tensor& memory_k, const Tensor& memory_v) {
    const auto leaf = [&](const Tensor& x) {
      leaves.push_back(x.detach().requires_grad_(true));
      return leaves.back();
    };
    const Tensor qkv = leaf(projection);
    const auto part = [&](int64_t i) { return qkv.select(2, i).transpose(1, 2); };
    q = part(0), k = part(1), v = part(2);
    if (!memory_k.defined()) return;
    k = at::cat({leaf(memory_k), k}, 2);
    v = at::cat({leaf(memory_v), v}, 2);
  }
};

TEST_F(KernelsOnGpu, FusedAttentionEqualsTheCpu) {
  at::manual_seed(12);
  struct Shape {
    int64_t length, window, heads, width, memory;
  };
  for (const Shape& s : std::vector<Shape>{{256, 100, 2, 64, 0},
                                           {1024, 512, 3, 64, 0},
                                           {640, 512, 2, 32, 0},
                                           {384, 7, 2, 128, 0},
                                           {512, 0, 2, 64, 0},
                                           {256, 100, 2, 64, 99},
                                           {1024, 512, 2, 64, 511},
                                           {128, 0, 2, 64, 300}}) {
    SCOPED_TRACE(cat(s.length, " positions, window ", s.window, ", ", s.heads, " heads of ", s.width,
                     ", behind ", s.memory, " keys"));
    const auto random_in = [](at::IntArrayRef sizes) { return at::randn(sizes).to(at::kBFloat16); };
    const Tensor projection = random_in({2, s.length, 3, s.heads, s.width}),
                 bar = random_in({2, s.heads, s.length, s.width});
    const auto memory = [&] { return s.memory > 0 ? random_in({2, s.heads, s.memory, s.width}) : Tensor(); };
    const Tensor memory_k = memory(), memory_v = memory();
    const auto on = [&](at::TensorOptions options) {
      const auto moved = [&](const Tensor& x) { return x.defined() ? x.to(options) : x; };
      return AttentionCase(moved(projection), moved(memory_k), moved(memory_v));
    };
    const auto cuda = at::TensorOptions().device(at::kCUDA).dtype(at::kBFloat16);
    const AttentionCase gpu = on(cuda), cpu = on(at::TensorOptions().dtype(at::kDouble));
    const bool has = has_fused_attention(gpu.q, gpu.k, gpu.v, s.window);
    ASSERT_EQ(has, FWL_HAVE_CUDNN == 1);
    if (!has) GTEST_SKIP() << "a build without cuDNN's frontend headers";
    const Tensor out = fused_attention(gpu.q, gpu.k, gpu.v, s.window);
    out.backward(bar.to(at::kCUDA));
    const Tensor expected = causal_attention(cpu.q, cpu.k, cpu.v, s.window);
    expected.backward(bar.to(at::kDouble));
    EXPECT_LT(distance(out, expected), 0.02);
    for (size_t i = 0; i < gpu.leaves.size(); ++i)
      EXPECT_LT(distance(gpu.leaves[i].grad(), cpu.leaves[i].grad()), 0.02) << "gradient " << i;
    {
      const at::NoGradGuard no_grad;
      EXPECT_TRUE(at::equal(fused_attention(gpu.q, gpu.k, gpu.v, s.window), out));
    }
    at::globalContext().setDeterministicAlgorithms(true, false);
    const AttentionCase once = on(cuda), again = on(cuda);
    for (const AttentionCase* x : {&once, &again})
      fused_attention(x->q, x->k, x->v, s.window).backward(bar.to(at::kCUDA));
    at::globalContext().setDeterministicAlgorithms(false, false);
    for (size_t i = 0; i < once.leaves.size(); ++i)
      EXPECT_TRUE(at::equal(once.leaves[i].grad(), again.leaves[i].grad())) << "gradient " << i;
  }
}

TEST_F(KernelsOnGpu, GradientsThatLieSideBySideAreGatheredInPlace) {
  at::manual_seed(13);
  const RotaryTable table =
      rotary_table(0, 10, 16, 10000, at::TensorOptions().dtype(at::kDouble).device(at::kCUDA));
  const Tensor whole = at::randn({2, 10, 3, 4, 16}, at::TensorOptions().dtype(at::kDouble).device(at::kCUDA));
  const auto part = [](const Tensor& x, int64_t i) { return x.select(2, i).transpose(1, 2); };
  const Tensor apart = gather_qkv_gradient(part(whole, 0).clone(), part(whole, 1).clone(),
                                           part(whole, 2).clone(), table, whole.sizes(), whole.options());
  const Tensor in_place = gather_qkv_gradient(part(whole, 0), part(whole, 1), part(whole, 2), table,
                                              whole.sizes(), whole.options());
  EXPECT_TRUE(in_place.is_alias_of(whole));
  EXPECT_LT(distance(in_place, apart), 1e-12);
}

TEST_F(KernelsOnGpu, TheScanOverStatesEqualsTheCpu) {
  at::manual_seed(18);
  for (const auto& [type, tolerance] : kTypes) {
    for (const int64_t key_dim : {3, 8, 300}) {
      for (const ScanOrder order : {ScanOrder::kForward, ScanOrder::kBackward}) {
        SCOPED_TRACE(cat(type, ", keys of ", key_dim));
        const Tensor added = random({2, 5, 7, key_dim}).to(accumulate_type(type)),
                     carry = at::rand({2, 1, 1, 1}, at::kDouble).to(accumulate_type(type));
        const StateScan found = scan_states(added.to(at::kCUDA), carry.to(at::kCUDA), type, order);
        const StateScan expected =
            scan_states(added.to(at::kDouble), carry.to(at::kDouble), at::kDouble, order);
        EXPECT_LT(distance(found.before_bgvk, expected.before_bgvk), tolerance);
        EXPECT_LT(distance(found.end_bvk, expected.end_bvk), 1e-5);
      }
    }
  }
}

TEST_F(KernelsOnGpu, TheChunkHasNoEffectOnLinearAttention) {
  at::manual_seed(9);
  const std::vector<Tensor> inputs = {random({2, 1300, 24}) / 5, random({2, 1300, 24}) / 5,
                                      random({2, 1300, 40})};
  for (const int64_t chunk : {32, 300, 1024, 1300}) {
    expect_equal_to_cpu(
        [&](const std::vector<Tensor>& x) {
          const Tensor log_decay = at::full({}, -0.01, x[0].options().dtype(at::kDouble));
          const int64_t own = x[0].is_cuda() ? chunk : 64;
          const LocalStates states = local_states(x[1], x[2], log_decay, {}, std::nullopt, own);
          return std::vector<Tensor>{attend_local(x[0], x[1], x[2], log_decay, {}, states, own)};
        },
        inputs, "linear attention");
  }
}

}  // namespace
}  // namespace fwl
