#include "core/kernels/softmax_rows.h"

#include "core/kernels/matmul.h"
#include "core/kernels/softmax_rows_cuda.h"

namespace fwl {
namespace {

// logits <- softmax(logits) in the accumulation type; returns the rows' negative log-likelihoods.
Tensor softmax_with_loss(const Tensor& logits_nv, const Tensor& label_n, Tensor* probability_nv) {
  Tensor log_p_nv = at::log_softmax(logits_nv, -1, accumulate_type(logits_nv.scalar_type()));
  Tensor nll_n = log_p_nv.gather(1, label_n.unsqueeze(1)).squeeze(1).neg();
  *probability_nv = log_p_nv.exp_();
  return nll_n;
}

void subtract_onehot_(Tensor& values_nv, const Tensor& label_n, const Tensor& weight_n) {
  values_nv.scatter_add_(1, label_n.unsqueeze(1), weight_n.neg().unsqueeze(1));
}

}  // namespace

Tensor cross_entropy_gradient_(Tensor& logits_nv, const Tensor& label_n, const Tensor& weight_n) {
  if (logits_nv.is_cuda()) return cuda::cross_entropy_gradient_(logits_nv, label_n, weight_n);
  Tensor p_nv;
  Tensor nll_n = softmax_with_loss(logits_nv, label_n, &p_nv);
  p_nv.mul_(weight_n.unsqueeze(1));
  subtract_onehot_(p_nv, label_n, weight_n);
  logits_nv.copy_(p_nv);
  return nll_n;
}

Tensor cross_entropy_errors_(Tensor& logits_nv, const Tensor& label_n, double threshold,
                             const LikelyTokens& likely) {
  if (logits_nv.is_cuda()) return cuda::cross_entropy_errors_(logits_nv, label_n, threshold, likely);
  Tensor p_nv;
  Tensor nll_n = softmax_with_loss(logits_nv, label_n, &p_nv);
  list_likely_tokens(p_nv, threshold, likely);
  subtract_onehot_(p_nv, label_n, at::ones_like(nll_n));
  logits_nv.copy_(p_nv);
  return nll_n;
}

Tensor cross_entropy(const Tensor& logits_nv, const Tensor& label_n) {
  if (logits_nv.is_cuda()) return cuda::cross_entropy(logits_nv, label_n);
  const Tensor log_p_nv = at::log_softmax(logits_nv, -1, accumulate_type(logits_nv.scalar_type()));
  return log_p_nv.gather(1, label_n.unsqueeze(1)).squeeze(1).neg();
}

void cross_entropy_gradient_backward_(Tensor& logits_nv, Tensor& error_bar_nv, const Tensor& label_n,
                                      const Tensor& weight_n, const Tensor& nll_n, const Tensor& nll_bar_n) {
  if (logits_nv.is_cuda()) {
    cuda::cross_entropy_gradient_backward_(logits_nv, error_bar_nv, label_n, weight_n, nll_n, nll_bar_n);
    return;
  }
  Tensor p_nv;
  softmax_with_loss(logits_nv, label_n, &p_nv);
  Tensor bar_nv = error_bar_nv.to(p_nv.scalar_type());
  const Tensor mean_n1 = (p_nv * bar_nv).sum(1, /*keepdim=*/true);
  const Tensor weight_n1 = weight_n.unsqueeze(1);
  // nll_bar (p - y) + w p (bar - mean) = p (nll_bar + w (bar - mean)) - nll_bar y
  Tensor logits_bar_nv = bar_nv.sub_(mean_n1).mul_(weight_n1).add_(nll_bar_n.unsqueeze(1)).mul_(p_nv);
  subtract_onehot_(logits_bar_nv, label_n, nll_bar_n);
  if (logits_bar_nv.data_ptr() != error_bar_nv.data_ptr()) error_bar_nv.copy_(logits_bar_nv);
  p_nv.mul_(weight_n1);
  subtract_onehot_(p_nv, label_n, weight_n);
  logits_nv.copy_(p_nv);
}

void cross_entropy_residual_backward_(const Tensor& residual_nv, Tensor& error_bar_nv, const Tensor& label_n,
                                      const Tensor& weight_n, const Tensor& nll_bar_n) {
  if (residual_nv.is_cuda()) {
    cuda::cross_entropy_residual_backward_(residual_nv, error_bar_nv, label_n, weight_n, nll_bar_n);
    return;
  }
  // nll_bar (p - y) + w p (bar - mean) = p (nll_bar + w (bar - mean)) - nll_bar y
  Tensor p_nv = residual_nv.to(weight_n.scalar_type(), /*non_blocking=*/false, /*copy=*/true);
  subtract_onehot_(p_nv, label_n, at::full_like(weight_n, -1));
  Tensor bar_nv = error_bar_nv.to(p_nv.scalar_type());
  const Tensor mean_n1 = (p_nv * bar_nv).sum(1, /*keepdim=*/true);
  Tensor logits_bar_nv =
      bar_nv.sub_(mean_n1).mul_(weight_n.unsqueeze(1)).add_(nll_bar_n.unsqueeze(1)).mul_(p_nv);
  subtract_onehot_(logits_bar_nv, label_n, nll_bar_n);
  if (logits_bar_nv.data_ptr() != error_bar_nv.data_ptr()) error_bar_nv.copy_(logits_bar_nv);
}

}  // namespace fwl
