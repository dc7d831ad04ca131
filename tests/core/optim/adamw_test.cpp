#include "core/optim/adamw.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/optim/schedule.h"

namespace fwl {
namespace {

// One weight per group, with the textbook update written out in doubles.
TEST(AdamW, EqualsTheTextbookUpdateInEveryGroup) {
  Parameters parameters;
  parameters.declare("step", ParameterGroup::kStepSize, at::full({1}, 0.7));
  parameters.declare("matrix", ParameterGroup::kDecay, at::full({1, 1}, 0.5));
  parameters.declare("norm", ParameterGroup::kNoDecay, at::full({1}, 1.5));
  parameters.build(at::kCPU, at::kDouble);
  AdamWConfig config;
  AdamW optimizer(parameters, config);
  struct Expected {
    double value, m = 0, v = 0, rate_factor, decay;
  };
  std::vector<Expected> expected = {
      {0.5, 0, 0, 1, config.weight_decay}, {1.5, 0, 0, 1, 0}, {0.7, 0, 0, config.step_size_rate_factor, 0}};
  const double rate = 0.01, scale = 0.5;
  for (int step = 1; step <= 5; ++step) {
    for (size_t i = 0; i < expected.size(); ++i) {
      const double gradient = std::sin(step + static_cast<double>(i));
      parameters.gradients()[static_cast<int64_t>(i)] = gradient;
      Expected& e = expected[i];
      const double g = gradient * scale, lr = rate * e.rate_factor;
      e.m = config.beta1 * e.m + (1 - config.beta1) * g;
      e.v = config.beta2 * e.v + (1 - config.beta2) * g * g;
      const double m_hat = e.m / (1 - std::pow(config.beta1, step)),
                   v_hat = e.v / (1 - std::pow(config.beta2, step));
      e.value -= lr * e.decay * e.value + lr * m_hat / (std::sqrt(v_hat) + config.epsilon);
    }
    optimizer.step(rate, {at::full({}, 1 / scale, at::kFloat), at::zeros({}, at::kFloat)});
  }
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_NEAR(parameters.values()[static_cast<int64_t>(i)].item<double>(), expected[i].value, 1e-6)
        << "group " << i;
  }
  EXPECT_EQ(optimizer.updates(), 5);
  EXPECT_NEAR(parameters["matrix"].item<double>(), expected[0].value, 1e-6);
}

TEST(AdamW, ANormThatIsNotFiniteChangesNothing) {
  Parameters parameters;
  parameters.declare("matrix", ParameterGroup::kDecay, at::full({3}, 0.5));
  parameters.build(at::kCPU, at::kFloat);
  AdamW optimizer(parameters, {});
  const auto step = [&](double gradient) {
    parameters.gradients().fill_(gradient);
    optimizer.step(0.1, clipped_scale(global_norm(parameters.gradients()), 1.0));
    return parameters.values().clone();
  };
  const Tensor before = step(2.0), first = optimizer.first_moments().clone();
  for (const double bad : {std::nan(""), static_cast<double>(INFINITY)}) {
    EXPECT_TRUE(at::equal(step(bad), before));
    EXPECT_TRUE(at::equal(optimizer.first_moments(), first));
    EXPECT_EQ(optimizer.updates(), 1);
  }
  EXPECT_FALSE(at::equal(step(2.0), before));
  EXPECT_EQ(optimizer.updates(), 2);
}

TEST(AdamW, CopiesFollowTheValues) {
  Parameters parameters;
  parameters.declare("matrix", ParameterGroup::kDecay, at::full({3, 2}, 0.5));
  parameters.declare("norm", ParameterGroup::kNoDecay, at::full({5}, 1.5));
  parameters.declare("step", ParameterGroup::kStepSize, at::full({2}, 0.7));
  parameters.build(at::kCPU, at::kFloat, at::kBFloat16);
  AdamW optimizer(parameters, {});
  const auto update = [&](double gradient) {
    parameters.gradients().fill_(gradient);
    optimizer.step(0.1, clipped_scale(global_norm(parameters.gradients()), 1.0));
  };
  const auto expect_fresh = [&] {
    parameters.refresh_copies();
    for (const char* name : {"matrix", "norm"})
      EXPECT_TRUE(at::equal(parameters.leaf(name), parameters[name].to(at::kBFloat16))) << name;
  };
  update(std::nan(""));  // before anybody has read a copy: nothing is written
  EXPECT_FALSE(parameters.has_fresh_copies());
  expect_fresh();
  update(2.0);
  EXPECT_TRUE(parameters.has_fresh_copies()) << "no pass over the weights is needed";
  expect_fresh();
  update(std::nan(""));
  expect_fresh();
  parameters.values().mul_(2);
  EXPECT_FALSE(parameters.has_fresh_copies());
  expect_fresh();
}

TEST(AdamW, ClipsLongGradientsAlone) {
  const auto inverse = [](double norm, double clip) {
    return clipped_scale(at::full({}, norm, at::kDouble), clip).inverse.item<float>();
  };
  EXPECT_EQ(inverse(8, 2), 4);
  EXPECT_EQ(inverse(1, 2), 1);
  EXPECT_EQ(inverse(8, 0), 1) << "0 is no clipping";
}

TEST(Schedule, WarmsUpThenFallsToTheFloor) {
  const ScheduleConfig c{2.0, 10, 110, 0.1};
  EXPECT_DOUBLE_EQ(learning_rate_at(c, 0), 0.2);
  EXPECT_DOUBLE_EQ(learning_rate_at(c, 9), 2.0);
  EXPECT_NEAR(learning_rate_at(c, 60), 2.0 * (0.1 + 0.9 * 0.5), 1e-12);
  EXPECT_NEAR(learning_rate_at(c, 110), 0.2, 1e-12);
  EXPECT_NEAR(learning_rate_at(c, 1000), 0.2, 1e-12);
}

}  // namespace
}  // namespace fwl
