#include "core/fast_weight/norm_gradient.h"

#include "core/base/autograd.h"
#include "core/kernels/norm.h"
#include "core/kernels/norm_cuda.h"

namespace fwl {
namespace {

// Mean over the last dim of a * b, kept as a column.
Tensor mean_of_product(const Tensor& a_nd, const Tensor& b_nd) {
  return (a_nd * b_nd).mean(-1, /*keepdim=*/true);
}

// A v of the header, symmetric in its argument.
Tensor apply_jacobian(const Tensor& v_nd, const Tensor& xhat_nd, const Tensor& inverse_sigma_n1) {
  const Tensor along_n1 = mean_of_product(v_nd, xhat_nd);
  return at::addcmul(v_nd - v_nd.mean(-1, true), xhat_nd, along_n1, -1).mul_(inverse_sigma_n1);
}

class LayerNormGradient : public torch::autograd::Function<LayerNormGradient> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& o_nd, const Tensor& scale_d, const Tensor& q_nd,
                        double epsilon) {
    const auto [xhat_nd, mean_n1, inverse_sigma_n1] =
        at::native_layer_norm(o_nd, {o_nd.size(-1)}, std::nullopt, std::nullopt, epsilon);
    ctx->save_for_backward({xhat_nd, inverse_sigma_n1, scale_d, q_nd});
    return apply_jacobian(scale_d * q_nd, xhat_nd, inverse_sigma_n1);
  }

  // For the cotangent v of g, r = scale * q:
  //   r_bar = A v,  q_bar = scale * r_bar,  scale_bar = sum_n q * r_bar,
  //   xhat_bar = -(v mean(r xhat) + r mean(v xhat)) / sigma,  sigma_bar = -<v, g> / sigma,
  //   o_bar = A xhat_bar + sigma_bar xhat / d.
  static variable_list backward(AutogradContext* ctx, variable_list bars) {
    const auto saved = ctx->get_saved_variables();
    const Tensor &xhat_nd = saved[0], &inverse_sigma_n1 = saved[1], &scale_d = saved[2], &q_nd = saved[3];
    const Tensor& v_nd = bars[0];
    const Tensor r_nd = scale_d * q_nd;
    const Tensor r_bar_nd = apply_jacobian(v_nd, xhat_nd, inverse_sigma_n1);
    const Tensor g_nd = apply_jacobian(r_nd, xhat_nd, inverse_sigma_n1);
    const Tensor xhat_bar_nd = (v_nd * mean_of_product(r_nd, xhat_nd))
                                   .addcmul_(r_nd, mean_of_product(v_nd, xhat_nd))
                                   .mul_(-inverse_sigma_n1);
    const Tensor sigma_bar_over_d_n1 = mean_of_product(v_nd, g_nd).mul_(-inverse_sigma_n1);
    Tensor o_bar_nd =
        apply_jacobian(xhat_bar_nd, xhat_nd, inverse_sigma_n1).addcmul_(xhat_nd, sigma_bar_over_d_n1);
    return {o_bar_nd, (q_nd * r_bar_nd).sum(0), scale_d * r_bar_nd, Tensor()};
  }
};

// The same by CUDA kernels, a row at a time.
class FusedLayerNormGradient : public torch::autograd::Function<FusedLayerNormGradient> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& o_nd, const Tensor& scale_d, const Tensor& q_nd,
                        double epsilon) {
    const cuda::NormGradientForward f = cuda::norm_gradient(o_nd, scale_d, q_nd, epsilon);
    ctx->save_for_backward({o_nd, scale_d, q_nd, f.mean_n, f.inverse_sigma_n});
    return f.g_nd;
  }

  static variable_list backward(AutogradContext* ctx, variable_list bars) {
    const auto saved = ctx->get_saved_variables();
    const cuda::NormGradientBackward b = cuda::norm_gradient_backward(
        saved[0], saved[1], saved[2], {Tensor(), saved[3], saved[4]}, bars[0].contiguous());
    return {b.o_bar_nd, b.scale_bar_d, b.q_bar_nd, Tensor()};
  }
};

}  // namespace

Tensor layer_norm_gradient(const Tensor& o_nd, const Tensor& scale_d, const Tensor& q_nd, double epsilon) {
  if (has_norm_kernels(o_nd))
    return FusedLayerNormGradient::apply(o_nd.contiguous(), scale_d, q_nd.contiguous(), epsilon);
  return LayerNormGradient::apply(o_nd, scale_d, q_nd, epsilon);
}

}  // namespace fwl
