#include "core/kernels/decay_mask_cuda.h"

#include "core/kernels/decay_mask.cu.h"
#include "core/kernels/launch_cuda.h"

namespace fwl::cuda {

Tensor apply_decay_mask_(Tensor& a_nij, Tensor b_nij, const DecayMask& mask, bool wants_sum) {
  require<InternalError>(a_nij.is_contiguous() && (!b_nij.defined() || b_nij.is_contiguous()) &&
                             mask.log_decay.scalar_type() == at::kDouble,
                         "decay_mask got scores ", a_nij.sizes());
  require<InternalError>(
      !mask.document_nc.defined() ||
          (mask.document_nc.scalar_type() == at::kLong && mask.document_nc.dim() == 2 &&
           mask.document_nc.size(0) == a_nij.size(0) && mask.document_nc.size(1) == a_nij.size(2)),
      "decay_mask got scores ", a_nij.sizes(), " and documents ", mask.document_nc.sizes());
  const Tensor document_nc = mask.document_nc.defined() ? mask.document_nc.contiguous() : Tensor();
  Tensor row_sums;
  if (wants_sum) row_sums = at::empty({a_nij.size(0), a_nij.size(1)}, a_nij.options().dtype(at::kDouble));
  check_launch(launch_decay_mask(scalar_type_of(a_nij), a_nij.data_ptr(), pointer_or_null(b_nij),
                                 mask.log_decay.const_data_ptr<double>(),
                                 static_cast<const int64_t*>(pointer_or_null(document_nc)),
                                 static_cast<double*>(pointer_or_null(row_sums)), a_nij.size(0),
                                 a_nij.size(2), c10::cuda::getCurrentCUDAStream()),
               "decay_mask");
  return wants_sum ? row_sums.sum() : Tensor();
}

}  // namespace fwl::cuda
