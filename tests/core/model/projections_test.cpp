#include "core/model/projections.h"

#include <gtest/gtest.h>

#include <functional>

#include "core/base/autograd.h"

namespace fwl {
namespace {

// Leaves gradients of q, k and v side by side, as cuDNN's attention does.
class SideBySide : public torch::autograd::Function<SideBySide> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& q, const Tensor& k, const Tensor& v,
                        const Tensor& bars_bt3he) {
    ctx->save_for_backward({bars_bt3he});
    return q.sum() + k.sum() + v.sum();
  }
  static variable_list backward(AutogradContext* ctx, const variable_list&) {
    const Tensor all = ctx->get_saved_variables()[0];
    const auto part = [&](int64_t i) { return all.select(2, i).transpose(1, 2); };
    return {part(0), part(1), part(2), Tensor()};
  }
};

struct Outcome {
  Tensor x_bar, weight_bar, left_bt3he;  // the last: where the gradients lay, after the backward
};
Outcome run(const Tensor& bars_bt3he, const std::function<Tensor(Tensor)>& hook) {
  at::manual_seed(4);
  const Tensor x = at::randn({2, 5, 8}, at::kDouble).requires_grad_(true),
               weight = at::randn({24, 8}, at::kDouble).requires_grad_(true);
  const RotaryTable table = rotary_table(3, 5, 4, 100, at::kDouble);
  const Outcome outcome{{}, {}, bars_bt3he.clone()};
  const AttentionInputs in = project_qkv(x, {weight, {}}, 2, table);
  if (hook) in.q_bhte.register_hook(hook);
  const auto bars = torch::autograd::grad(
      {SideBySide::apply(in.q_bhte, in.k_bhte, in.v_bhte, outcome.left_bt3he)}, {x, weight});
  return {bars[0], bars[1], outcome.left_bt3he};
}

TEST(Projections, GradientsAreTurnedInPlaceWhereNobodyElseHoldsThem) {
  at::manual_seed(3);
  const Tensor bars_bt3he = at::randn({2, 5, 3, 2, 4}, at::kDouble);
  const Outcome alone = run(bars_bt3he, {});
  EXPECT_FALSE(at::equal(alone.left_bt3he, bars_bt3he)) << "the fast way is not taken";
  Tensor kept;
  const Outcome watched = run(bars_bt3he, [&](const Tensor& q_bar) { return kept = q_bar; });
  EXPECT_TRUE(at::equal(watched.left_bt3he, bars_bt3he)) << "numbers that somebody holds were changed";
  EXPECT_TRUE(at::equal(kept, bars_bt3he.select(2, 0).transpose(1, 2)));
  EXPECT_TRUE(at::equal(watched.x_bar, alone.x_bar));
  EXPECT_TRUE(at::equal(watched.weight_bar, alone.weight_bar));
}

}  // namespace
}  // namespace fwl
