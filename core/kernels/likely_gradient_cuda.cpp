#include "core/kernels/likely_gradient_cuda.h"

#include <cmath>

#include "core/kernels/launch_cuda.h"
#include "core/kernels/likely_gradient.cu.h"
#include "core/kernels/matmul.h"

namespace fwl::cuda {

LikelyGradient likely_gradient(const Tensor& any_logits_nv, const Tensor& label_n,
                               const Tensor& any_unembedding_vd, const Tensor& rest_row_d, double threshold,
                               const Tensor& weight_n) {
  const Tensor logits_nv = any_logits_nv.contiguous(),
               unembedding_vd = on_vectors(any_unembedding_vd.contiguous());
  const int64_t tokens = logits_nv.size(0), width = unembedding_vd.size(1);
  const auto wide = logits_nv.options().dtype(accumulate_type(logits_nv.scalar_type()));
  LikelyGradient result{at::empty({tokens}, wide), at::empty({tokens, width}, unembedding_vd.options()),
                        at::empty({tokens}, wide.dtype(at::kInt)), at::empty({tokens}, wide)};
  check_launch(launch_likely_gradient(
                   scalar_type_of(logits_nv),
                   {logits_nv.const_data_ptr(), label_n.const_data_ptr<int64_t>(),
                    weight_n.defined() ? weight_n.const_data_ptr() : nullptr, unembedding_vd.const_data_ptr(),
                    rest_row_d.const_data_ptr(), result.nll_n.data_ptr(), result.gradient_nd.data_ptr(),
                    result.kept_n.data_ptr<int32_t>(), result.rest_n.data_ptr(), tokens, logits_nv.size(1),
                    width, std::log(threshold)},
                   c10::cuda::getCurrentCUDAStream()),
               "likely_gradient");
  return result;
}

}  // namespace fwl::cuda
