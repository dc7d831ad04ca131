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

}  // namespace fwl::cuda
