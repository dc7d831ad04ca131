#include "core/kernels/norm.h"

#include "core/base/autograd.h"
#include "core/kernels/fused_shapes.h"
#include "core/kernels/norm_cpu.h"
#include "core/kernels/norm_cuda.h"

namespace fwl {
namespace {

class AddNormFunction : public torch::autograd::Function<AddNormFunction> {
 public:
  // Without a delta the sum is x itself, as an output: its gradient comes with the norm's, in the same pass.
  static variable_list forward(AutogradContext* ctx, const Tensor& x, const std::optional<Tensor>& delta,
                               const Tensor& scale_d, const std::optional<Tensor>& bias, double epsilon) {
    const auto kernel = x.is_cuda() ? &cuda::add_norm : &cpu::add_norm;
    const cuda::AddNormForward f =
        kernel(x, delta.value_or(Tensor()), scale_d, bias.value_or(Tensor()), epsilon);
    ctx->set_materialize_grads(false);
    ctx->saved_data["has_delta"] = delta.has_value();
    ctx->save_for_backward({f.sum, scale_d, f.mean_n, f.inverse_sigma_n});
    return {f.norm, delta.has_value() ? f.sum : x};
  }

  static variable_list backward(AutogradContext* ctx, variable_list bars) {
    const bool has_delta = ctx->saved_data["has_delta"].toBool();
    const Tensor norm_bar = bars[0], sum_bar = bars[1];
    if (!norm_bar.defined()) return {sum_bar, has_delta ? sum_bar : Tensor(), Tensor(), Tensor(), Tensor()};
    const auto saved = ctx->get_saved_variables();
    const auto whole = [](const Tensor& t) { return t.defined() ? t.contiguous() : t; };
    const auto kernel = saved[0].is_cuda() ? &cuda::add_norm_backward : &cpu::add_norm_backward;
    const cuda::AddNormBackward b =
        kernel(saved[0], saved[1], saved[2], saved[3], whole(norm_bar), whole(sum_bar));
    return {b.x_bar, has_delta ? b.x_bar : Tensor(), b.scale_bar_d, b.bias_bar_d, Tensor()};
  }
};

Tensor normalised(const Tensor& x, const Tensor& scale_d, const Tensor& bias_d, double epsilon) {
  if (bias_d.defined()) return at::layer_norm(x, {x.size(-1)}, scale_d, bias_d, epsilon);
  return at::rms_norm(x, {x.size(-1)}, scale_d, epsilon);
}

}  // namespace

bool has_norm_kernels(const Tensor& x) {
  return x.is_cuda() && !refusal_of_norm("width", x.size(-1), static_cast<int64_t>(x.element_size()));
}

AddNorm add_norm(const Tensor& x, const Tensor& delta, const Tensor& scale_d, const Tensor& bias_d,
                 double epsilon) {
  if (!has_norm_kernels(x) && !cpu::has_add_norm(x)) {
    const Tensor sum = delta.defined() ? x + delta : x;
    return {sum, normalised(sum, scale_d, bias_d, epsilon)};
  }
  const Tensor whole_delta = delta.defined() ? delta.contiguous() : delta;
  const variable_list result =
      AddNormFunction::apply(x.contiguous(), optional_of(whole_delta), scale_d, optional_of(bias_d), epsilon);
  return {result[1], result[0]};
}

}  // namespace fwl
