#include "core/model/parameters.h"

#include <gtest/gtest.h>

#include "core/base/autograd.h"
#include "core/base/error.h"
#include "core/model/transformer.h"

namespace fwl {
namespace {

struct Fixture {
  Parameters parameters;
  explicit Fixture(at::ScalarType compute, int64_t rows = 6) {
    at::manual_seed(1);
    parameters.declare("bias", ParameterGroup::kNoDecay, at::randn({rows}));
    parameters.declare("weight", ParameterGroup::kDecay, at::randn({rows, 5}));
    parameters.declare("step", ParameterGroup::kStepSize, at::full({}, 0.3));
    parameters.build(at::kCPU, at::kFloat, compute);
  }
  // Uses the weight twice, as tied and fast weights do.
  Tensor loss(int seed, const Tensor& weight, const Tensor& bias) {
    at::manual_seed(seed);
    const Tensor x = at::randn({7, 5}).to(weight.scalar_type());
    const Tensor y = at::linear(x, weight, bias);
    return (at::mm(y, weight).to(at::kFloat) * parameters["step"]).square().sum();
  }
  Tensor leaf_loss(int seed) {
    parameters.refresh_copies();
    return loss(seed, parameters.leaf("weight"), parameters.leaf("bias"));
  }
  Tensor cast_loss(int seed) {
    return loss(seed, parameters["weight"].to(at::kBFloat16), parameters["bias"].to(at::kBFloat16));
  }
};

TEST(Parameters, GradientsOfTheCopiesAreThoseOfCastingInTheGraph) {
  Fixture copies(at::kBFloat16), casts(at::kFloat);
  EXPECT_EQ(copies.parameters.compute_type(), at::kBFloat16);
  EXPECT_EQ(copies.parameters.leaf("weight").scalar_type(), at::kBFloat16);
  for (const int seed : {2, 3, 4}) {  // micro-batches: later ones are added in float32
    copies.parameters.backward(copies.leaf_loss(seed));
    casts.parameters.backward(casts.cast_loss(seed));
    EXPECT_TRUE(at::equal(copies.parameters.gradients(), casts.parameters.gradients())) << seed;
    for (const Parameter& p : copies.parameters.all())
      EXPECT_FALSE(p.has_copy() && p.leaf.grad().defined()) << p.name << " keeps its gradient";
  }
  EXPECT_GT(copies.parameters.gradients().abs().min().item<float>(), 0);
  copies.parameters.zero_gradients();
  casts.parameters.zero_gradients();
  copies.parameters.backward(copies.leaf_loss(5));
  casts.parameters.backward(casts.cast_loss(5));
  EXPECT_TRUE(at::equal(copies.parameters.gradients(), casts.parameters.gradients()));
}

// What a step leaves is written over; where the next one has no gradient, it must not stay.
TEST(Parameters, NothingOfAStepIsLeftWhereTheNextHasNoGradient) {
  Fixture f(at::kBFloat16);
  f.parameters.backward(f.leaf_loss(2));
  EXPECT_GT(f.parameters.gradients().abs().min().item<float>(), 0);
  f.parameters.zero_gradients();
  f.parameters.refresh_copies();
  f.parameters.backward(f.parameters.leaf("bias").to(at::kFloat).square().sum());
  EXPECT_EQ(f.parameters["weight"].grad().abs().max().item<float>(), 0);
  EXPECT_EQ(f.parameters["step"].grad().abs().max().item<float>(), 0);
  EXPECT_TRUE(at::equal(f.parameters["bias"].grad(), 2 * f.parameters.leaf("bias").detach().to(at::kFloat)));
  f.parameters.backward(f.leaf_loss(2));
  f.parameters.zero_gradients();
  EXPECT_EQ(f.parameters.gradients().abs().max().item<float>(), 0) << "read without a backward";
  f.parameters.backward(f.leaf_loss(2));
  f.parameters.zero_gradients();
  f.parameters.finish_gradients(0, f.parameters.all().size());
  for (const Parameter& p : f.parameters.all())
    EXPECT_EQ(p.gradient.abs().max().item<float>(), 0) << p.name << ": a bucket without a backward";
}

// Frequent tokens, repeated ones and none; twice, as micro-batches; with a gradient of the whole table
// beside.
TEST(Parameters, LookupsAddTheirRowsInFloat32) {
  Fixture f(at::kBFloat16);
  const Tensor index = at::tensor({0, 3, 3, 5, 3, 0}, at::kLong).view({2, 3});
  at::manual_seed(9);
  const Tensor factor = at::randn({2, 3, 5});
  Tensor expected = at::zeros({6, 5});
  for (const bool whole : {false, true, false}) {
    const WeightView view(f.parameters, at::kBFloat16);
    const Tensor rows = view.rows(f.parameters.index_of("weight"), index);
    EXPECT_TRUE(at::equal(rows, at::embedding(f.parameters.leaf("weight"), index)));
    Tensor objective = (rows.to(at::kFloat) * factor).sum();
    if (whole) objective = objective + f.parameters.leaf("weight").to(at::kFloat).sum();
    f.parameters.backward(objective);
    expected.index_add_(0, index.flatten(), factor.to(at::kBFloat16).to(at::kFloat).flatten(0, 1));
    if (whole) expected += 1;
    EXPECT_LT((f.parameters["weight"].grad() - expected).abs().max().item<float>(), 1e-6) << whole;
  }
  f.parameters.zero_gradients();
  EXPECT_EQ(f.parameters.gradients().abs().max().item<float>(), 0);
  const at::NoGradGuard no_grad;
  EXPECT_FALSE(
      WeightView(f.parameters, at::kBFloat16).rows(f.parameters.index_of("weight"), index).requires_grad());
}

TEST(Parameters, TheCotangentOfAnObjectiveIsKnownAndAnyOtherIsNot) {
  const Tensor like = at::zeros({}, at::kFloat), wide = at::zeros({}, at::kDouble);
  EXPECT_EQ(unit_cotangent(like).item<float>(), 1);
  EXPECT_TRUE(is_unit_cotangent(unit_cotangent(like)) && is_unit_cotangent(unit_cotangent(wide)));
  EXPECT_FALSE(is_unit_cotangent(at::ones({}, at::kFloat)) || is_unit_cotangent({}) ||
               is_unit_cotangent(unit_cotangent(like) * 1));
}

TEST(Parameters, CopiesTakeTheValuesWhenRefreshed) {
  Fixture f(at::kBFloat16);
  f.parameters.refresh_copies();
  const Tensor before = f.parameters.leaf("weight").detach().clone();
  EXPECT_TRUE(at::equal(before, f.parameters["weight"].detach().to(at::kBFloat16)));
  f.parameters.values().mul_(2);
  EXPECT_TRUE(at::equal(f.parameters.leaf("weight").detach(), before));
  f.parameters.refresh_copies();
  EXPECT_TRUE(at::equal(f.parameters.leaf("weight").detach(), before * 2));
  // By one parameter's value, and by address after values().
  Tensor(f.parameters["weight"]).detach().mul_(2);
  f.parameters.refresh_copies();
  EXPECT_TRUE(at::equal(f.parameters.leaf("weight").detach(), before * 4));
  float* first = f.parameters.values().mutable_data_ptr<float>();
  f.parameters.refresh_copies();
  first = f.parameters.values().mutable_data_ptr<float>();
  *first = 8;
  f.parameters.refresh_copies();
  EXPECT_EQ(f.parameters.leaf("weight").detach().flatten()[0].item<float>(), 8);
}

TEST(Parameters, StepSizesAndWholePrecisionHaveNoCopies) {
  Fixture narrow(at::kBFloat16), whole(at::kFloat);
  EXPECT_TRUE(narrow.parameters.leaf("step").is_same(narrow.parameters["step"]));
  for (const Parameter& p : whole.parameters.all()) EXPECT_FALSE(p.has_copy()) << p.name;
  EXPECT_EQ(whole.parameters.compute_type(), at::kFloat);
  EXPECT_THROW(narrow.parameters.leaf("none"), InternalError);
}

TEST(Parameters, ALargeGradientIsCollectedDuringTheBackward) {
  Fixture f(at::kBFloat16, (int64_t{64} << 20) / 10);  // its copy's gradient is 64 MiB
  f.leaf_loss(2).backward();
  EXPECT_FALSE(f.parameters.leaf("weight").grad().defined());
  EXPECT_GT(f.parameters["weight"].grad().abs().max().item<float>(), 0);
}

}  // namespace
}  // namespace fwl
