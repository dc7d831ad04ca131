#include "core/kernels/norm_cpu.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>

#include "core/kernels/wide.h"

namespace fwl::cpu {
namespace {

constexpr int64_t kLanes = 16;
constexpr int64_t kBlocks = 32;  // of rows, each with its own sums for scale and bias

// sum_j term(j), in kLanes partial sums so that it can be a loop over vectors.
template <typename T, typename Term>
FWL_INLINE T lane_sum(int64_t d, Term term) {
  T part[kLanes] = {};
  int64_t j = 0;
  for (; j + kLanes <= d; j += kLanes) {
    for (int64_t l = 0; l < kLanes; ++l) part[l] += term(j + l);
  }
  for (int64_t l = 0; j + l < d; ++l) part[l] += term(j + l);
  T sum = 0;
  for (int64_t l = 0; l < kLanes; ++l) sum += part[l];
  return sum;
}

template <typename T>
struct Forward {
  const T *x, *delta, *scale, *bias;  // delta and bias may be null; a bias makes it LayerNorm
  T *sum, *norm, *mean, *inverse_sigma;
  int64_t d;
  T epsilon;
};

template <typename T>
FWL_INLINE void forward_rows(const Forward<T>& f, int64_t begin, int64_t end) {
  const int64_t d = f.d;
  for (int64_t n = begin; n < end; ++n) {
    const T* __restrict sum = f.x + n * d;
    if (f.delta != nullptr) {
      T* __restrict out = f.sum + n * d;
      const T* __restrict x = f.x + n * d, * __restrict delta = f.delta + n * d;
      for (int64_t j = 0; j < d; ++j) out[j] = x[j] + delta[j];
      sum = out;
    }
    const T mean =
        f.bias == nullptr ? T(0) : lane_sum<T>(d, [&](int64_t j) { return sum[j]; }) / static_cast<T>(d);
    const T square = lane_sum<T>(d, [&](int64_t j) { return (sum[j] - mean) * (sum[j] - mean); });
    const T inverse = 1 / std::sqrt(square / static_cast<T>(d) + f.epsilon);
    T* __restrict norm = f.norm + n * d;
    const T* __restrict scale = f.scale, * __restrict bias = f.bias;
    if (bias == nullptr) {
      for (int64_t j = 0; j < d; ++j) norm[j] = sum[j] * inverse * scale[j];
    } else {
      for (int64_t j = 0; j < d; ++j) norm[j] = (sum[j] - mean) * inverse * scale[j] + bias[j];
      f.mean[n] = mean;
    }
    f.inverse_sigma[n] = inverse;
  }
}

template <typename T>
struct Backward {
  const T *sum, *scale, *mean, *inverse_sigma, *norm_bar, *sum_bar;  // mean (RMSNorm) and sum_bar may be null
  T* x_bar;
  int64_t d;
};

// Adds to scale_bar [d] and, with a mean, to bias_bar [d].
template <typename T>
FWL_INLINE void backward_rows(const Backward<T>& b, T* __restrict scale_bar, T* __restrict bias_bar,
                              int64_t begin, int64_t end) {
  const int64_t d = b.d;
  const T* __restrict scale = b.scale;
  for (int64_t n = begin; n < end; ++n) {
    const T* __restrict sum = b.sum + n * d, * __restrict bar = b.norm_bar + n * d;
    T* __restrict x_bar = b.x_bar + n * d;
    const T inverse = b.inverse_sigma[n], mean = b.mean == nullptr ? T(0) : b.mean[n];
    const auto xhat = [&](int64_t j) { return (sum[j] - mean) * inverse; };
    const T average = b.mean == nullptr
                          ? T(0)
                          : lane_sum<T>(d, [&](int64_t j) { return bar[j] * scale[j]; }) / static_cast<T>(d);
    const T along =
        lane_sum<T>(d, [&](int64_t j) { return bar[j] * scale[j] * xhat(j); }) / static_cast<T>(d);
    for (int64_t j = 0; j < d; ++j) {
      x_bar[j] = inverse * (bar[j] * scale[j] - average - xhat(j) * along);
      scale_bar[j] += bar[j] * xhat(j);
    }
    if (b.mean != nullptr) {
      for (int64_t j = 0; j < d; ++j) bias_bar[j] += bar[j];
    }
    if (b.sum_bar == nullptr) continue;
    const T* __restrict sum_bar = b.sum_bar + n * d;
    for (int64_t j = 0; j < d; ++j) x_bar[j] += sum_bar[j];
  }
}

FWL_WIDE void run(const Forward<float>& f, int64_t begin, int64_t end) {
  forward_rows(f, begin, end);
}
FWL_WIDE void run(const Forward<double>& f, int64_t begin, int64_t end) {
  forward_rows(f, begin, end);
}
FWL_WIDE void run(const Backward<float>& b, float* scale_bar, float* bias_bar, int64_t begin, int64_t end) {
  backward_rows(b, scale_bar, bias_bar, begin, end);
}
FWL_WIDE void run(const Backward<double>& b, double* scale_bar, double* bias_bar, int64_t begin,
                  int64_t end) {
  backward_rows(b, scale_bar, bias_bar, begin, end);
}

template <typename T>
const T* read(const Tensor& t) {
  return t.defined() ? t.const_data_ptr<T>() : nullptr;
}
template <typename T>
T* write(const Tensor& t) {
  return t.defined() ? t.mutable_data_ptr<T>() : nullptr;
}

int64_t rows_of(const Tensor& x) {
  return x.numel() / x.size(-1);
}

}  // namespace

bool has_add_norm(const Tensor& x) {
  return x.is_cpu() && x.numel() > 0 && (x.scalar_type() == at::kFloat || x.scalar_type() == at::kDouble);
}

cuda::AddNormForward add_norm(const Tensor& x, const Tensor& delta, const Tensor& scale_d,
                              const Tensor& bias_d, double epsilon) {
  const int64_t rows = rows_of(x), d = x.size(-1);
  const Tensor sum = delta.defined() ? at::empty_like(x) : x, norm = at::empty_like(x);
  const Tensor mean_n = bias_d.defined() ? at::empty({rows}, x.options()) : Tensor();
  const Tensor inverse_n = at::empty({rows}, x.options());
  AT_DISPATCH_FLOATING_TYPES(x.scalar_type(), "add_norm", [&] {
    using T = scalar_t;
    const Forward<T> f{read<T>(x),
                       read<T>(delta),
                       read<T>(scale_d),
                       read<T>(bias_d),
                       delta.defined() ? write<T>(sum) : nullptr,
                       write<T>(norm),
                       write<T>(mean_n),
                       write<T>(inverse_n),
                       d,
                       static_cast<T>(epsilon)};
    at::parallel_for(0, rows, std::max<int64_t>(1, 32768 / d), [&](int64_t a, int64_t b) { run(f, a, b); });
  });
  return {sum, norm, mean_n, inverse_n};
}

cuda::AddNormBackward add_norm_backward(const Tensor& sum, const Tensor& scale_d, const Tensor& mean_n,
                                        const Tensor& inverse_sigma_n, const Tensor& norm_bar,
                                        const Tensor& sum_bar) {
  const int64_t rows = rows_of(sum), d = sum.size(-1);
  const Tensor x_bar = at::empty_like(sum);
  const Tensor scale_bar_pd = at::zeros({kBlocks, d}, sum.options());
  const Tensor bias_bar_pd = mean_n.defined() ? at::zeros({kBlocks, d}, sum.options()) : Tensor();
  AT_DISPATCH_FLOATING_TYPES(sum.scalar_type(), "add_norm_backward", [&] {
    using T = scalar_t;
    const Backward<T> b{read<T>(sum),      read<T>(scale_d), read<T>(mean_n), read<T>(inverse_sigma_n),
                        read<T>(norm_bar), read<T>(sum_bar), write<T>(x_bar), d};
    T *scale_bar = write<T>(scale_bar_pd), *bias_bar = write<T>(bias_bar_pd);
    at::parallel_for(0, kBlocks, 1, [&](int64_t first, int64_t last) {
      for (int64_t p = first; p < last; ++p)
        run(b, scale_bar + p * d, bias_bar == nullptr ? nullptr : bias_bar + p * d, rows * p / kBlocks,
            rows * (p + 1) / kBlocks);
    });
  });
  return {x_bar, scale_bar_pd.sum(0), bias_bar_pd.defined() ? bias_bar_pd.sum(0) : Tensor()};
}

}  // namespace fwl::cpu
