#include "core/model/projections.h"

#include "core/base/autograd.h"
#include "core/kernels/fused_products.h"
#include "core/kernels/fused_shapes.h"

namespace fwl {
namespace {

// Gradients of y = x W^T + b, everything with its leading dims flattened.
struct ProjectionBackward {
  Tensor x_bar, weight_bar, bias_bar;

  ProjectionBackward(const Tensor& x_nd, const Tensor& weight, bool has_bias, const Tensor& y_bar_nf)
      : x_bar(at::mm(y_bar_nf, weight)), weight_bar(at::mm(y_bar_nf.t(), x_nd)) {
    if (has_bias) bias_bar = y_bar_nf.sum(0);
  }
};

class QkvFunction : public torch::autograd::Function<QkvFunction> {
 public:
  static variable_list forward(AutogradContext* ctx, const Tensor& x_btd, const Tensor& weight,
                               const std::optional<Tensor>& bias, const std::optional<Tensor>& cosine,
                               const std::optional<Tensor>& sine, int64_t heads) {
    const RotaryTable table{cosine.value_or(Tensor()), sine.value_or(Tensor())};
    Tensor qkv = at::linear(x_btd, weight, bias)
                     .view({x_btd.size(0), x_btd.size(1), 3, heads, weight.size(0) / (3 * heads)});
    if (table.cosine_te.defined()) rotate_queries_keys_(qkv, table);
    ctx->set_materialize_grads(false);
    ctx->saved_data["heads"] = heads;
    ctx->saved_data["has_bias"] = bias.has_value();
    ctx->save_for_backward({x_btd, weight, table.cosine_te, table.sine_te});
    const auto part = [&](int64_t i) { return qkv.select(2, i).transpose(1, 2); };
    return {part(0), part(1), part(2)};
  }

  // `bars` by reference: gather_qkv_gradient() turns gradients in place that nobody else holds.
  static variable_list backward(AutogradContext* ctx, const variable_list& bars) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &x_btd = saved[0], &weight = saved[1];
    const int64_t heads = ctx->saved_data["heads"].toInt();
    const Tensor qkv_bar = gather_qkv_gradient(
        bars[0], bars[1], bars[2], {saved[2], saved[3]},
        {x_btd.size(0), x_btd.size(1), 3, heads, weight.size(0) / (3 * heads)}, x_btd.options());
    const ProjectionBackward b(x_btd.flatten(0, 1), weight, ctx->saved_data["has_bias"].toBool(),
                               qkv_bar.view({-1, weight.size(0)}));
    return {b.x_bar.view_as(x_btd), b.weight_bar, b.bias_bar, Tensor(), Tensor(), Tensor()};
  }
};

class FeedForwardFunction : public torch::autograd::Function<FeedForwardFunction> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& x_btd, const Tensor& up,
                        const std::optional<Tensor>& up_bias, const Tensor& down,
                        const std::optional<Tensor>& down_bias, bool gelu, bool fused) {
    Tensor u_btf, act_btf;
    if (fused) {
      act_btf =
          squared_relu_product(x_btd.flatten(0, 1), up).view({x_btd.size(0), x_btd.size(1), up.size(0)});
    } else {
      u_btf = at::linear(x_btd, up, up_bias);
      act_btf = activate(kind_of(gelu), u_btf);
    }
    ctx->saved_data["fused"] = fused;
    ctx->saved_data["gelu"] = gelu;
    ctx->saved_data["up_bias"] = up_bias.has_value();
    ctx->saved_data["down_bias"] = down_bias.has_value();
    ctx->save_for_backward({x_btd, up, down, keeps_act(gelu, x_btd) ? act_btf : u_btf});
    return at::linear(act_btf, down, down_bias);
  }

  static variable_list backward(AutogradContext* ctx, variable_list bars) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &x_btd = saved[0], &up = saved[1], &down = saved[2];
    const Tensor kept_nf = saved[3].flatten(0, 1), y_bar_nd = bars[0].flatten(0, 1);
    const ActivationBackward act = activation_backward(ctx, kept_nf, y_bar_nd, down);
    const Tensor down_bar = at::mm(y_bar_nd.t(), act.act);
    const Tensor down_bias_bar = ctx->saved_data["down_bias"].toBool() ? y_bar_nd.sum(0) : Tensor();
    const ProjectionBackward b(x_btd.flatten(0, 1), up, ctx->saved_data["up_bias"].toBool(), act.u_bar);
    return {b.x_bar.view_as(x_btd), b.weight_bar, b.bias_bar, down_bar, down_bias_bar, Tensor(), Tensor()};
  }

 private:
  // The activation, and the cotangent of what it takes.
  static ActivationBackward activation_backward(AutogradContext* ctx, const Tensor& kept_nf,
                                                const Tensor& y_bar_nd, const Tensor& down) {
    const bool gelu = ctx->saved_data["gelu"].toBool();
    if (ctx->saved_data["fused"].toBool())
      return {kept_nf, squared_relu_product_backward(y_bar_nd, down, kept_nf)};
    const Tensor act_bar_nf = at::mm(y_bar_nd, down);
    if (keeps_act(gelu, kept_nf)) return {kept_nf, squared_relu_backward(kept_nf, act_bar_nf)};
    return activate_backward(kind_of(gelu), kept_nf, act_bar_nf);
  }

  // On a GPU the bytes that are read and written decide: the squared ReLU's value says all of its slope.
  static bool keeps_act(bool gelu, const Tensor& x) { return !gelu && x.is_cuda(); }
  static Activation kind_of(bool gelu) { return gelu ? Activation::kGelu : Activation::kSquaredRelu; }
};

}  // namespace

AttentionInputs project_qkv(const Tensor& x_btd, const Projection& qkv, int64_t heads,
                            const RotaryTable& table) {
  const variable_list parts =
      QkvFunction::apply(x_btd, qkv.weight, optional_of(qkv.bias), optional_of(table.cosine_te),
                         optional_of(table.sine_te), heads);
  return {parts[0], parts[1], parts[2]};
}

Tensor feed_forward(const Tensor& x_btd, const Projection& up, const Projection& down, Activation kind) {
  // Asked here: inside of the function gradients are off.
  const bool fused = !refusal_of_fused_feed_forward(kind == Activation::kSquaredRelu, up.bias.defined()) &&
                     has_fused_products(x_btd.flatten(0, 1), up.weight);
  return FeedForwardFunction::apply(x_btd, up.weight, optional_of(up.bias), down.weight,
                                    optional_of(down.bias), kind == Activation::kGelu, fused);
}

}  // namespace fwl
