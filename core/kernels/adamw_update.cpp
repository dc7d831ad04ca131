#include "core/kernels/adamw_update.h"

#include "core/base/error.h"
#include "core/kernels/adamw_update_cuda.h"

namespace fwl {

void adamw_update_(Tensor& value, Tensor& gradient, Tensor& first, Tensor& second, const Tensor& copy,
                   const AdamWProgress& progress, const AdamWRates& rates) {
  for (const Tensor& t : {gradient, first, second})
    require<InternalError>(t.numel() == value.numel() && t.scalar_type() == value.scalar_type() &&
                               t.is_contiguous() && value.is_contiguous(),
                           "adamw_update_ got ", t.numel(), " elements of ", t.scalar_type(), " for ",
                           value.numel(), " values of ", value.scalar_type());
  require<InternalError>(
      !copy.defined() || (copy.numel() == value.numel() && copy.scalar_type() == at::kBFloat16),
      "adamw_update_ got a copy of ", copy.defined() ? copy.numel() : 0, " elements for ", value.numel());
  if (value.is_cuda()) {
    cuda::adamw_update_(value, gradient, first, second, copy, progress, rates);
    return;
  }
  at::_fused_adamw_(value, gradient, first, second, {}, progress.updates, rates.rate, rates.beta1,
                    rates.beta2, rates.weight_decay, rates.epsilon, /*amsgrad=*/false, /*maximize=*/false,
                    progress.inverse, progress.skip);
  if (copy.defined()) copy.copy_(value);
}

}  // namespace fwl
