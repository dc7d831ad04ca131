#include "core/kernels/activation_cpu.h"

#include <ATen/Parallel.h>

#include "core/kernels/wide.h"

namespace fwl::cpu {
namespace {

constexpr int64_t kGrain = 32768;

// `act` or `u_bar` may be null. NaN stays NaN.
template <typename T>
FWL_INLINE void squared_relu_range(const T* __restrict u, const T* __restrict bar, T* __restrict act,
                                   T* __restrict u_bar, int64_t count) {
  const auto relu = [&](int64_t i) { return u[i] < 0 ? T(0) : u[i]; };
  if (u_bar == nullptr) {
    for (int64_t i = 0; i < count; ++i) act[i] = relu(i) * relu(i);
  } else if (act == nullptr) {
    for (int64_t i = 0; i < count; ++i) u_bar[i] = 2 * relu(i) * bar[i];
  } else {
    for (int64_t i = 0; i < count; ++i) {
      act[i] = relu(i) * relu(i);
      u_bar[i] = 2 * relu(i) * bar[i];
    }
  }
}

FWL_WIDE void run(const float* u, const float* bar, float* act, float* u_bar, int64_t count) {
  squared_relu_range(u, bar, act, u_bar, count);
}
FWL_WIDE void run(const double* u, const double* bar, double* act, double* u_bar, int64_t count) {
  squared_relu_range(u, bar, act, u_bar, count);
}

void over(const Tensor& u, const Tensor& bar, const Tensor& act, const Tensor& u_bar) {
  AT_DISPATCH_FLOATING_TYPES(u.scalar_type(), "squared_relu", [&] {
    const auto read = [](const Tensor& t) { return t.defined() ? t.const_data_ptr<scalar_t>() : nullptr; };
    const auto write = [](const Tensor& t) { return t.defined() ? t.mutable_data_ptr<scalar_t>() : nullptr; };
    const scalar_t *from = read(u), *bars = read(bar);
    scalar_t *acts = write(act), *u_bars = write(u_bar);
    at::parallel_for(0, u.numel(), kGrain, [&](int64_t first, int64_t last) {
      const auto at = [&](auto* p) { return p == nullptr ? p : p + first; };
      run(from + first, at(bars), at(acts), at(u_bars), last - first);
    });
  });
}

}  // namespace

bool has_squared_relu(const Tensor& u) {
  return u.is_cpu() && (u.scalar_type() == at::kFloat || u.scalar_type() == at::kDouble);
}

Tensor squared_relu(const Tensor& u) {
  const Tensor whole = u.contiguous(), act = at::empty_like(whole);
  over(whole, {}, act, {});
  return act;
}

ActivationBackward squared_relu_backward(const Tensor& u, const Tensor& bar) {
  const Tensor whole = u.contiguous(), act = at::empty_like(whole), u_bar = at::empty_like(whole);
  over(whole, bar.contiguous(), act, u_bar);
  return {act, u_bar};
}

Tensor squared_relu_gradient(const Tensor& u, const Tensor& bar) {
  const Tensor whole = u.contiguous(), u_bar = at::empty_like(whole);
  over(whole, bar.contiguous(), {}, u_bar);
  return u_bar;
}

}  // namespace fwl::cpu
