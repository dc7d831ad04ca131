#include "core/kernels/step_rows.h"

#include "core/base/autograd.h"
#include "core/kernels/step_rows_cuda.h"

namespace fwl {
namespace {

class StepRowsFunction : public torch::autograd::Function<StepRowsFunction> {
 public:
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& r, const Tensor& scale_k) {
    ctx->save_for_backward({r, scale_k});
    return cuda::step_rows(x, r, scale_k);
  }
  static variable_list backward(AutogradContext* ctx, variable_list bars) {
    const auto saved = ctx->get_saved_variables();
    const cuda::StepRowsBackward b = cuda::step_rows_backward(bars[0].contiguous(), saved[0], saved[1]);
    return {bars[0], b.r_bar, b.scale_bar_k};
  }
};

}  // namespace

Tensor step_rows(const Tensor& x, const Tensor& r, const Tensor& scale_k) {
  const bool same = x.sizes() == r.sizes() && x.scalar_type() == r.scalar_type() &&
                    scale_k.scalar_type() == r.scalar_type() && scale_k.numel() == r.size(-1);
  if (!x.is_cuda() || !same || scale_k.dim() != 1 || !cuda::step_rows_fits(r))
    return at::addcmul(x, r, scale_k, -1);
  return StepRowsFunction::apply(x.contiguous(), r.contiguous(), scale_k);
}

}  // namespace fwl
