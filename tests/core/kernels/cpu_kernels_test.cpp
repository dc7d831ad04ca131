// The CPU's own one-pass kernels against ATen's operations and their autograd.
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "core/kernels/activation.h"
#include "core/kernels/norm.h"
#include "core/kernels/rotary.h"

namespace fwl {
namespace {

Tensor leaf(at::IntArrayRef shape, at::ScalarType type) {
  return at::randn(shape, at::kDouble).to(type).requires_grad_();
}

Tensor grad_of(const Tensor& t) {
  Tensor result = t.grad().clone();
  t.mutable_grad() = Tensor();
  return result;
}

void expect_near(const Tensor& a, const Tensor& b, const char* what) {
  const double tolerance = a.scalar_type() == at::kDouble ? 1e-12 : 2e-5;
  EXPECT_LE((a - b).abs().max().item<double>(), tolerance * (1 + b.abs().max().item<double>())) << what;
}

struct Norm {
  Tensor x, delta, scale, bias;

  // Sum, norm and all gradients of a scalar that reads both.
  std::vector<Tensor> results(const AddNorm& n, const Tensor& weight) const {
    std::vector<Tensor> all = {n.sum.detach(), n.norm.detach()};
    ((n.norm * weight).sum() + (n.sum * weight).square().sum()).backward();
    for (const Tensor& t : {x, delta, scale, bias})
      if (t.defined()) all.push_back(grad_of(t));
    return all;
  }
};

TEST(CpuKernels, NormWithResidualEqualsAten) {
  at::manual_seed(1);
  for (const at::ScalarType type : {at::kDouble, at::kFloat}) {
    for (const int64_t width : {1, 7, 16, 50, 192}) {
      for (const bool layer_norm : {true, false}) {
        for (const bool residual : {true, false}) {
          const Norm c{leaf({3, 37, width}, type), residual ? leaf({3, 37, width}, type) : Tensor(),
                       leaf({width}, type), layer_norm ? leaf({width}, type) : Tensor()};
          const Tensor weight = at::randn({3, 37, width}, at::kDouble).to(type);
          const auto ours = c.results(add_norm(c.x, c.delta, c.scale, c.bias, 1e-2), weight);
          const Tensor sum = residual ? c.x + c.delta : c.x * 1;
          const Tensor norm = layer_norm ? at::layer_norm(sum, {width}, c.scale, c.bias, 1e-2)
                                         : at::rms_norm(sum, {width}, c.scale, 1e-2);
          const auto atens = c.results({sum, norm}, weight);
          ASSERT_EQ(ours.size(), atens.size());
          for (size_t i = 0; i < ours.size(); ++i) expect_near(ours[i], atens[i], "norm");
        }
      }
    }
  }
}

TEST(CpuKernels, NormGradientHasTheSameBitsWithAnyNumberOfThreads) {
  const Norm c{leaf({1000, 64}, at::kFloat), {}, leaf({64}, at::kFloat), leaf({64}, at::kFloat)};
  const Tensor weight = at::randn({1000, 64});
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const auto one = c.results(add_norm(c.x, {}, c.scale, c.bias, 1e-5), weight);
  at::set_num_threads(3);
  const auto three = c.results(add_norm(c.x, {}, c.scale, c.bias, 1e-5), weight);
  at::set_num_threads(threads);
  for (size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(at::equal(one[i], three[i]));
}

TEST(CpuKernels, SquaredReluAndItsGradientsEqualAten) {
  at::manual_seed(2);
  for (const at::ScalarType type : {at::kDouble, at::kFloat}) {
    const Tensor u = leaf({5, 4001}, type), bar = at::randn({5, 4001}, at::kDouble).to(type);
    activation(Activation::kSquaredRelu, u).backward(bar);
    const Tensor ours = grad_of(u);
    at::relu(u).square().backward(bar);
    expect_near(ours, grad_of(u), "gradient");
    const ActivationBackward both = activate_backward(Activation::kSquaredRelu, u.detach(), bar);
    expect_near(both.act, at::relu(u.detach()).square(), "value");
    expect_near(both.u_bar, ours, "gradient, again");
    expect_near(squared_relu_backward(both.act, bar), ours, "gradient from the value");
  }
}

TEST(CpuKernels, ActivationReadsTransposedTensorsAndKeepsNan) {
  Tensor u = at::randn({6, 40}).t();
  expect_near(activate(Activation::kSquaredRelu, u), at::relu(u).square(), "transposed");
  u = at::full({20}, NAN);
  EXPECT_TRUE(activate(Activation::kSquaredRelu, u).isnan().all().item<bool>());
}

// What the projection's backward gets: gradients apart, side by side, one expanded element for all three, and
// parts of one tensor in another order.
TEST(CpuKernels, GradientsOfAProjectionAreGatheredFromWhereverTheyLie) {
  at::manual_seed(4);
  const auto options = at::TensorOptions().dtype(at::kDouble);
  const RotaryTable table = rotary_table(0, 10, 16, 10000, options);
  const Tensor whole = at::randn({2, 10, 3, 4, 16}, options);
  const auto part = [&](int64_t i) { return whole.select(2, i).transpose(1, 2); };
  const auto gathered = [&](const Tensor& q, const Tensor& k, const Tensor& v) {
    return gather_qkv_gradient(q, k, v, table, whole.sizes(), options);
  };
  const Tensor apart = gathered(part(0).clone(), part(1).clone(), part(2).clone());
  const Tensor turned = gathered(part(1), part(0), part(2));
  EXPECT_FALSE(turned.is_alias_of(whole));
  EXPECT_TRUE(at::equal(turned, gathered(part(1).clone(), part(0).clone(), part(2).clone())));
  const Tensor one = at::ones({1, 1, 1, 1}, options).expand({2, 4, 10, 16});
  EXPECT_TRUE(at::equal(gathered(one, one, one), gathered(one.clone(), one.clone(), one.clone())));
  EXPECT_EQ(one.max().item<double>(), 1);
  const Tensor in_place = gathered(part(0), part(1), part(2));  // last: it writes to `whole`
  EXPECT_TRUE(in_place.is_alias_of(whole));
  EXPECT_TRUE(at::equal(in_place, apart));
}

}  // namespace
}  // namespace fwl
