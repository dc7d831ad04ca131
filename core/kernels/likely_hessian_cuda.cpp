#include "core/kernels/likely_hessian_cuda.h"

#include "core/kernels/launch_cuda.h"
#include "core/kernels/likely_hessian.cu.h"

namespace fwl::cuda {

void likely_hessian(const LikelyTokens& likely, const InnerLossRows& rows, const Tensor& unembedding_vd,
                    LikelyHessian& result) {
  check_launch(
      launch_likely_hessian(
          scalar_type_of(unembedding_vd),
          {likely.token_nk.const_data_ptr<int32_t>(), likely.probability_nk.const_data_ptr(),
           rows.x_nd.const_data_ptr(), rows.u_nd.const_data_ptr(), rows.q_nd.const_data_ptr(),
           rows.label_n.const_data_ptr<int64_t>(), rows.weight_n.const_data_ptr(),
           rows.nll_bar_n.const_data_ptr(), unembedding_vd.const_data_ptr(), result.x_bar_nd.data_ptr(),
           result.factor_nd.data_ptr(), result.h_nk.data_ptr(), result.weight_bar_n.data_ptr(),
           rows.x_nd.size(0), unembedding_vd.size(1), likely.token_nk.size(1)},
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
