#include "core/kernels/norm_cuda.h"

#include <algorithm>

#include "core/kernels/launch_cuda.h"
#include "core/kernels/matmul.h"
#include "core/kernels/norm.cu.h"
#include "core/kernels/partial_sums.cu.h"

namespace fwl::cuda {
namespace {

int64_t width_of(const Tensor& x) {
  return x.size(-1);
}
int64_t rows_of_last(const Tensor& x) {
  return x.numel() / std::max<int64_t>(1, width_of(x));
}

void check_rows(std::initializer_list<const Tensor*> tensors, const Tensor& scale_d) {
  for (const Tensor* t : tensors) {
    require<InternalError>(
        !t->defined() || (t->is_contiguous() && t->scalar_type() == scale_d.scalar_type() &&
                          t->size(-1) == scale_d.numel()),
        "norm kernels got a tensor ", t->sizes(), " for width ", scale_d.numel());
  }
}

Tensor row_statistics(const Tensor& x) {
  return at::empty({rows_of_last(x)}, x.options().dtype(accumulate_type(x.scalar_type())));
}

// [count, partials, width]: `count` sums over rows, one part per thread block.
Tensor partial_sums(const Tensor& x, int64_t count) {
  const int64_t partials = norm_backward_partials(scalar_type_of(x), rows_of_last(x), width_of(x));
  return at::empty({count, partials, width_of(x)}, x.options().dtype(accumulate_type(x.scalar_type())));
}
Tensor totals(const Tensor& partial_spd, const Tensor& like_d) {
  Tensor sums = at::empty({partial_spd.size(0), partial_spd.size(2)}, like_d.options().requires_grad(false));
  check_launch(launch_sum_partials(scalar_type_of(like_d), partial_spd.const_data_ptr(), sums.data_ptr(),
                                   partial_spd.size(0), partial_spd.size(1), partial_spd.size(2),
                                   c10::cuda::getCurrentCUDAStream()),
               "sum_partials");
  return sums;
}

}  // namespace

AddNormForward add_norm(const Tensor& any_x, const Tensor& any_delta, const Tensor& any_scale_d,
                        const Tensor& any_bias_d, double epsilon) {
  const Tensor x = on_vectors(any_x), delta = on_vectors(any_delta), scale_d = on_vectors(any_scale_d),
               bias_d = on_vectors(any_bias_d);
  check_rows({&x, &delta}, scale_d);
  AddNormForward f{delta.defined() ? at::empty_like(x) : x, at::empty_like(x), Tensor(), row_statistics(x)};
  if (bias_d.defined()) f.mean_n = row_statistics(x);
  check_launch(launch_add_norm(scalar_type_of(x), x.const_data_ptr(), pointer_or_null(delta),
                               scale_d.const_data_ptr(), pointer_or_null(bias_d), epsilon, f.sum.data_ptr(),
                               f.norm.data_ptr(), pointer_or_null(f.mean_n), f.inverse_sigma_n.data_ptr(),
                               rows_of_last(x), width_of(x), c10::cuda::getCurrentCUDAStream()),
               "add_norm");
  return f;
}

AddNormBackward add_norm_backward(const Tensor& any_sum, const Tensor& any_scale_d, const Tensor& mean_n,
                                  const Tensor& inverse_sigma_n, const Tensor& any_norm_bar,
                                  const Tensor& any_sum_bar) {
  const Tensor sum = on_vectors(any_sum), scale_d = on_vectors(any_scale_d),
               norm_bar = on_vectors(any_norm_bar), sum_bar = on_vectors(any_sum_bar);
  check_rows({&sum, &norm_bar, &sum_bar}, scale_d);
  const Tensor partial = partial_sums(sum, mean_n.defined() ? 2 : 1);
  Tensor x_bar = at::empty_like(sum);
  check_launch(launch_add_norm_backward(scalar_type_of(sum), sum.const_data_ptr(), scale_d.const_data_ptr(),
                                        pointer_or_null(mean_n), inverse_sigma_n.const_data_ptr(),
                                        norm_bar.const_data_ptr(), pointer_or_null(sum_bar), x_bar.data_ptr(),
                                        partial[0].data_ptr(),
                                        mean_n.defined() ? partial[1].data_ptr() : nullptr, partial.size(1),
                                        rows_of_last(sum), width_of(sum), c10::cuda::getCurrentCUDAStream()),
               "add_norm_backward");
  const Tensor sums = totals(partial, scale_d);
  return {x_bar, sums[0], mean_n.defined() ? sums[1] : Tensor()};
}

NormGradientForward norm_gradient(const Tensor& any_o_nd, const Tensor& any_scale_d, const Tensor& any_q_nd,
                                  double epsilon) {
  const Tensor o_nd = on_vectors(any_o_nd), scale_d = on_vectors(any_scale_d), q_nd = on_vectors(any_q_nd);
  check_rows({&o_nd, &q_nd}, scale_d);
  NormGradientForward f{at::empty_like(q_nd), row_statistics(o_nd), row_statistics(o_nd)};
  check_launch(launch_norm_gradient(scalar_type_of(o_nd), o_nd.const_data_ptr(), scale_d.const_data_ptr(),
                                    q_nd.const_data_ptr(), epsilon, f.g_nd.data_ptr(), f.mean_n.data_ptr(),
                                    f.inverse_sigma_n.data_ptr(), rows_of_last(o_nd), width_of(o_nd),
                                    c10::cuda::getCurrentCUDAStream()),
               "norm_gradient");
  return f;
}

NormGradientBackward norm_gradient_backward(const Tensor& any_o_nd, const Tensor& any_scale_d,
                                            const Tensor& any_q_nd, const NormGradientForward& forward,
                                            const Tensor& any_g_bar_nd) {
  const Tensor o_nd = on_vectors(any_o_nd), scale_d = on_vectors(any_scale_d), q_nd = on_vectors(any_q_nd),
               g_bar_nd = on_vectors(any_g_bar_nd);
  check_rows({&o_nd, &q_nd, &g_bar_nd}, scale_d);
  const Tensor partial = partial_sums(o_nd, 1);
  Tensor o_bar_nd = at::empty_like(o_nd), q_bar_nd = at::empty_like(q_nd);
  check_launch(
      launch_norm_gradient_backward(
          scalar_type_of(o_nd), o_nd.const_data_ptr(), scale_d.const_data_ptr(), q_nd.const_data_ptr(),
          forward.mean_n.const_data_ptr(), forward.inverse_sigma_n.const_data_ptr(),
          g_bar_nd.const_data_ptr(), o_bar_nd.data_ptr(), q_bar_nd.data_ptr(), partial.data_ptr(),
          partial.size(1), rows_of_last(o_nd), width_of(o_nd), c10::cuda::getCurrentCUDAStream()),
      "norm_gradient_backward");
  return {o_bar_nd, totals(partial, scale_d)[0], q_bar_nd};
}

}  // namespace fwl::cuda
