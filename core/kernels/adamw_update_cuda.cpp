#include "core/kernels/adamw_update_cuda.h"

#include "core/kernels/adamw_update.cu.h"
#include "core/kernels/launch_cuda.h"

namespace fwl::cuda {

void adamw_update_(Tensor& value, const Tensor& gradient, Tensor& first, Tensor& second, const Tensor& copy,
                   const AdamWProgress& progress, const AdamWRates& rates) {
  check_launch(launch_adamw_update(
                   scalar_type_of(value),
                   {value.data_ptr(), first.data_ptr(), second.data_ptr(), pointer_or_null(copy),
                    gradient.const_data_ptr(), progress.updates.const_data_ptr<float>(),
                    progress.inverse.const_data_ptr<float>(), progress.skip.const_data_ptr<float>(),
                    value.numel(), rates.rate, rates.beta1, rates.beta2, rates.epsilon, rates.weight_decay},
                   c10::cuda::getCurrentCUDAStream()),
               "adamw_update");
}

}  // namespace fwl::cuda
