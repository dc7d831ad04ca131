// The gradient of a norm as a function, and its own gradients: what the layer's second order goes through
// (norm_rows.cuh; formulas: norm.h). The scale's gradient is summed as norm.cu does.
#include "core/kernels/norm.cu.h"
#include "core/kernels/norm_rows.cuh"

namespace fwl::cuda {
namespace {

// a <- A a of the header.
template <typename R, typename A>
__device__ void apply_jacobian(R& a, const R& xhat, A inverse, int width) {
  const A average = row_mean<R>(width, [&](int i, int e) { return a.at[i][e]; });
  const A along = row_mean<R>(width, [&](int i, int e) { return a.at[i][e] * xhat.at[i][e]; });
  R::for_each(width,
              [&](int i, int e) { a.at[i][e] = (a.at[i][e] - average - xhat.at[i][e] * along) * inverse; });
}

template <typename Scalar, int kVectors>
__global__ void __launch_bounds__(kWarps * 32)
    norm_gradient_kernel(const Scalar* o, const Scalar* scale, const Scalar* q, AccumulateOf<Scalar> epsilon,
                         Scalar* g, AccumulateOf<Scalar>* mean, AccumulateOf<Scalar>* inverse_sigma,
                         int64_t rows, int width) {
  using R = Row<Scalar, kVectors>;
  using A = AccumulateOf<Scalar>;
  const int64_t row = warp_of_grid();
  if (row >= rows) return;
  R xhat, r;
  xhat.load(o + row * width, width);
  A m, inverse;
  statistics(xhat, width, true, epsilon, &m, &inverse);
  R::for_each(width, [&](int i, int e) { xhat.at[i][e] = (xhat.at[i][e] - m) * inverse; });
  r.load(q + row * width, width);
  {
    R s;
    s.load(scale, width);
    R::for_each(width, [&](int i, int e) { r.at[i][e] *= s.at[i][e]; });
  }
  apply_jacobian(r, xhat, inverse, width);
  r.store(g + row * width, width);
  if (threadIdx.x % 32 != 0) return;
  mean[row] = m;
  inverse_sigma[row] = inverse;
}

// r = scale q, r_bar = A v, q_bar = scale r_bar, scale_bar = sum of q r_bar,
// xhat_bar = -(v mean(r xhat) + r mean(v xhat)) / sigma, sigma_bar / d = -mean(v g) / sigma with g = A r,
// o_bar = A xhat_bar + sigma_bar / d xhat.
template <typename Scalar, int kVectors>
__global__ void __launch_bounds__(kWarps * 32)
    norm_gradient_backward_kernel(const Scalar* o, const Scalar* scale, const Scalar* q,
                                  const AccumulateOf<Scalar>* mean, const AccumulateOf<Scalar>* inverse_sigma,
                                  const Scalar* v, Scalar* o_bar, Scalar* q_bar,
                                  AccumulateOf<Scalar>* scale_partial, int64_t rows, int width) {
  using R = Row<Scalar, kVectors>;
  using A = AccumulateOf<Scalar>;
  extern __shared__ __align__(16) unsigned char shared_bytes[];
  R scale_bar;
  scale_bar.clear();
  for (int64_t row = warp_of_grid(); row < rows; row += static_cast<int64_t>(gridDim.x) * kWarps) {
    const A m = mean[row], inverse = inverse_sigma[row];
    R xhat, cotangent, r, s, work;
    xhat.load(o + row * width, width);
    cotangent.load(v + row * width, width);
    r.load(q + row * width, width);
    s.load(scale, width);
    work = cotangent;
    R::for_each(width, [&](int i, int e) { xhat.at[i][e] = (xhat.at[i][e] - m) * inverse; });
    apply_jacobian(work, xhat, inverse, width);  // r_bar
    R::for_each(width, [&](int i, int e) {
      scale_bar.at[i][e] += r.at[i][e] * work.at[i][e];
      work.at[i][e] *= s.at[i][e];
      r.at[i][e] *= s.at[i][e];
    });
    work.store(q_bar + row * width, width);
    const A r_along = row_mean<R>(width, [&](int i, int e) { return r.at[i][e] * xhat.at[i][e]; });
    const A v_along = row_mean<R>(width, [&](int i, int e) { return cotangent.at[i][e] * xhat.at[i][e]; });
    const A r_average = row_mean<R>(width, [&](int i, int e) { return r.at[i][e]; });
    // mean(v g), g = (r - r_average - xhat r_along) / sigma
    const A v_dot_g = inverse * row_mean<R>(width, [&](int i, int e) {
                        return cotangent.at[i][e] * (r.at[i][e] - r_average - xhat.at[i][e] * r_along);
                      });
    R::for_each(width, [&](int i, int e) {
      work.at[i][e] = -(cotangent.at[i][e] * r_along + r.at[i][e] * v_along) * inverse;
    });
    apply_jacobian(work, xhat, inverse, width);
    R::for_each(width, [&](int i, int e) { work.at[i][e] -= v_dot_g * inverse * xhat.at[i][e]; });
    work.store(o_bar + row * width, width);
  }
  sum_over_warps(scale_bar, reinterpret_cast<A*>(shared_bytes), scale_partial, width);
}

}  // namespace

cudaError_t launch_norm_gradient(ScalarType type, const void* o, const void* scale, const void* q,
                                 double epsilon, void* g, void* mean, void* inverse_sigma, int64_t rows,
                                 int64_t width, cudaStream_t stream) {
  if (rows == 0) return cudaSuccess;
  return dispatch(type, [&](auto* tag) {
    using S = std::remove_pointer_t<decltype(tag)>;
    using A = AccumulateOf<S>;
    for_width<S>(width, [&](auto vectors) {
      norm_gradient_kernel<S, decltype(vectors)::value><<<blocks_of(rows), kWarps * 32, 0, stream>>>(
          static_cast<const S*>(o), static_cast<const S*>(scale), static_cast<const S*>(q),
          static_cast<A>(epsilon), static_cast<S*>(g), static_cast<A*>(mean), static_cast<A*>(inverse_sigma),
          rows, static_cast<int>(width));
    });
  });
}

cudaError_t launch_norm_gradient_backward(ScalarType type, const void* o, const void* scale, const void* q,
                                          const void* mean, const void* inverse_sigma, const void* v,
                                          void* o_bar, void* q_bar, void* scale_partial, int64_t partials,
                                          int64_t rows, int64_t width, cudaStream_t stream) {
  return dispatch(type, [&](auto* tag) {
    using S = std::remove_pointer_t<decltype(tag)>;
    using A = AccumulateOf<S>;
    for_partials<S>(width, [&](auto vectors, size_t shared) {
      norm_gradient_backward_kernel<S, decltype(vectors)::value>
          <<<static_cast<unsigned>(partials), kWarps * 32, shared, stream>>>(
              static_cast<const S*>(o), static_cast<const S*>(scale), static_cast<const S*>(q),
              static_cast<const A*>(mean), static_cast<const A*>(inverse_sigma), static_cast<const S*>(v),
              static_cast<S*>(o_bar), static_cast<S*>(q_bar), static_cast<A*>(scale_partial), rows,
              static_cast<int>(width));
    });
  });
}

}  // namespace fwl::cuda
