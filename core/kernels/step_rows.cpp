#include "core/kernels/step_rows.h"

#include "core/base/autograd.h"
#include "core/kernels/fused_shapes.h"
#include "core/kernels/matmul.h"
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
  const bool suits = x.is_cuda() && x.sizes() == r.sizes() && x.scalar_type() == r.scalar_type() &&
                     r.numel() > 0 && scale_k.scalar_type() == accumulate_type(r.scalar_type()) &&
                     !refusal_of_step_rows("width", r.size(-1), static_cast<int64_t>(r.element_size()),
                                           scale_k.dim() == 1 && scale_k.numel() == r.size(-1));
  if (suits) return StepRowsFunction::apply(x.contiguous(), r.contiguous(), scale_k);
  // A scalar would be rounded to the rows' type.
  const bool alone = scale_k.dim() == 0 && scale_k.scalar_type() != r.scalar_type();
  return at::addcmul(x, r, alone ? scale_k.unsqueeze(0) : scale_k, -1).to(r.scalar_type());
}

}  // namespace fwl
