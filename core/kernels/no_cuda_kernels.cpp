// Stands in for the *_cuda.cpp files in a build without CUDA.
#include "core/base/error.h"
#include "core/kernels/activation_cuda.h"
#include "core/kernels/adamw_update_cuda.h"
#include "core/kernels/decay_mask_cuda.h"
#include "core/kernels/likely_gradient_cuda.h"
#include "core/kernels/likely_hessian_cuda.h"
#include "core/kernels/norm_cuda.h"
#include "core/kernels/rotary_cuda.h"
#include "core/kernels/softmax_rows_cuda.h"
#include "core/kernels/state_scan_cuda.h"
#include "core/kernels/step_rows_cuda.h"
#include "core/kernels/token_sums_cuda.h"

namespace fwl::cuda {
namespace {
[[noreturn]] void refuse() {
  throw ConfigError(
      "a GPU tensor reached a build without CUDA (its kernels are not compiled in). Configure with "
      "-DFWL_CUDA=ON.");
}
}  // namespace

void adamw_update_(Tensor&, const Tensor&, Tensor&, Tensor&, const Tensor&, const AdamWProgress&,
                   const AdamWRates&) {
  refuse();
}
Tensor cross_entropy_gradient_(Tensor&, const Tensor&, const Tensor&) {
  refuse();
}
Tensor cross_entropy_errors_(Tensor&, const Tensor&, double, const LikelyTokens&) {
  refuse();
}
Tensor cross_entropy(const Tensor&, const Tensor&) {
  refuse();
}
void cross_entropy_gradient_backward_(Tensor&, Tensor&, const Tensor&, const Tensor&, const Tensor&,
                                      const Tensor&) {
  refuse();
}

void cross_entropy_residual_backward_(const Tensor&, Tensor&, const Tensor&, const Tensor&, const Tensor&) {
  refuse();
}
LikelyGradient likely_gradient(const Tensor&, const Tensor&, const Tensor&, const Tensor&, double,
                               const Tensor&) {
  refuse();
}
void likely_hessian(const LikelyTokens&, const InnerLossRows&, const Tensor&, LikelyHessian&) {
  refuse();
}
void add_token_sums_(Tensor&, const Tensor&, const Tensor&, const Tensor&) {
  refuse();
}
Tensor squared_relu_backward(const Tensor&, const Tensor&) {
  refuse();
}
Tensor activate(Activation, const Tensor&) {
  refuse();
}
ActivationBackward activate_backward(Activation, const Tensor&, const Tensor&, bool) {
  refuse();
}
Tensor apply_decay_mask_(Tensor&, Tensor, const DecayMask&, bool) {
  refuse();
}
Tensor step_rows(const Tensor&, const Tensor&, const Tensor&) {
  refuse();
}
StepRowsBackward step_rows_backward(const Tensor&, const Tensor&, const Tensor&) {
  refuse();
}
StateScan scan_states(const Tensor&, const Tensor&, at::ScalarType, ScanOrder) {
  refuse();
}
AddNormForward add_norm(const Tensor&, const Tensor&, const Tensor&, const Tensor&, double) {
  refuse();
}
AddNormBackward add_norm_backward(const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&,
                                  const Tensor&) {
  refuse();
}
NormGradientForward norm_gradient(const Tensor&, const Tensor&, const Tensor&, double) {
  refuse();
}
NormGradientBackward norm_gradient_backward(const Tensor&, const Tensor&, const Tensor&,
                                            const NormGradientForward&, const Tensor&) {
  refuse();
}
void rotate_queries_keys_(Tensor&, const RotaryTable&, Turn) {
  refuse();
}
Tensor gather_qkv_gradient(const Tensor&, const Tensor&, const Tensor&, const RotaryTable&, at::IntArrayRef,
                           const at::TensorOptions&) {
  refuse();
}

}  // namespace fwl::cuda
