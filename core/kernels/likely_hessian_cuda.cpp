#include "core/kernels/likely_hessian_cuda.h"

#include "core/kernels/launch_cuda.h"
#include "core/kernels/likely_hessian.cu.h"

namespace fwl::cuda {

void likely_hessian(const Tensor& residual_nv, const Tensor& label_n, const Tensor& weight_n,
                    const Tensor& any_u_nd, const Tensor& mean_n, const Tensor& any_unembedding_vd,
                    double threshold, LikelyHessian& result) {
  const Tensor u_nd = on_vectors(any_u_nd), unembedding_vd = on_vectors(any_unembedding_vd);
  check_launch(
      launch_likely_hessian(scalar_type_of(residual_nv),
                            {residual_nv.const_data_ptr(), label_n.const_data_ptr<int64_t>(),
                             weight_n.const_data_ptr(), u_nd.const_data_ptr(), mean_n.const_data_ptr(),
                             unembedding_vd.const_data_ptr(), result.x_bar_nd.data_ptr(),
                             result.token_nk.data_ptr<int32_t>(), result.h_nk.data_ptr(), residual_nv.size(0),
                             residual_nv.size(1), unembedding_vd.size(1), result.token_nk.size(1), threshold},
                            c10::cuda::getCurrentCUDAStream()),
      "likely_hessian");
}

void add_listed_products_(Tensor& sum_vd, const LikelyHessian& hessian, const Tensor& any_x_nd) {
  const Tensor x_nd = on_vectors(any_x_nd);
  // By token, those of one token in the order of rows; what is no token (-1) comes first.
  const auto [token, pair] = at::sort(hessian.token_nk.flatten(), /*stable=*/true, 0, /*descending=*/false);
  const Tensor first_v =
      at::searchsorted(token, at::arange(sum_vd.size(0) + 1, token.options()), /*out_int32=*/false);
  const Tensor listed = at::empty({sum_vd.size(0)}, first_v.options()),
               listed_count = at::zeros({1}, token.options());
  check_launch(
      launch_listed_products(
          scalar_type_of(x_nd),
          {first_v.const_data_ptr<int64_t>(), pair.const_data_ptr<int64_t>(), hessian.h_nk.const_data_ptr(),
           x_nd.const_data_ptr(), sum_vd.data_ptr(), listed.data_ptr<int64_t>(), listed_count.data_ptr<int>(),
           sum_vd.size(0), sum_vd.size(1), hessian.token_nk.size(1)},
          c10::cuda::getCurrentCUDAStream()),
      "listed_products");
}

}  // namespace fwl::cuda
