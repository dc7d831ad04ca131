// A thread takes vectors of columns of what is as wide as x; a warp takes a listed row of the unembedding for
// its product with u; a thread takes a vector of columns for the sum over the list. Sums are in a fixed
// order: so are the bits.
#include <algorithm>

#include "core/kernels/likely_hessian.cu.h"
#include "core/kernels/logit_rows.cuh"
#include "core/kernels/row_sums.cuh"

namespace fwl::cuda {
namespace {

constexpr int kThreads = 128;  // of a block, which has a row: several share a multiprocessor

// <a, b> over a warp; every lane gets it.
template <int kColumns, typename Scalar>
__device__ AccumulateOf<Scalar> warp_dot(const Scalar* a, const Scalar* b, int vectors) {
  AccumulateOf<Scalar> sum = 0;
  for (int c = threadIdx.x % 32; c < vectors; c += 32) {
    const Vector<Scalar, kColumns> x = load_vector<kColumns>(a + c * kColumns),
                                   y = load_vector<kColumns>(b + c * kColumns);
#pragma unroll
    for (int e = 0; e < kColumns; ++e) sum += widen(x.at[e]) * widen(y.at[e]);
  }
  return warp_sum(sum);
}

// kColumns: elements read at once.
template <typename Scalar, int kColumns>
__global__ void __launch_bounds__(kThreads) likely_hessian_kernel(const LikelyHessianArguments a) {
  using A = AccumulateOf<Scalar>;
  const int64_t t = blockIdx.x, at = t * a.width;
  const Scalar *const x = static_cast<const Scalar*>(a.x_nd) + at,
                      *const u = static_cast<const Scalar*>(a.u_nd) + at,
                      *const q = static_cast<const Scalar*>(a.q_nd) + at;
  const Scalar* const weight_vd = static_cast<const Scalar*>(a.unembedding_vd);
  const Scalar* const own = weight_vd + a.label_n[t] * a.width;
  const int32_t* const token = a.token_nk + t * a.places;
  const A* const probability = static_cast<const A*>(a.probability_nk) + t * a.places;
  A* const h = static_cast<A*>(a.h_nk) + t * a.places;
  const A w = static_cast<const A*>(a.weight_n)[t], l = static_cast<const A*>(a.nll_bar_n)[t];
  const int vectors = static_cast<int>(a.width / kColumns), places = static_cast<int>(a.places);

  int mine = 0;
  for (int k = threadIdx.x; k < places; k += kThreads) mine += token[k] >= 0 ? 1 : 0;
  const int count = block_sum<kThreads>(mine);
  A of_q = 0, of_label = 0;  // <u, q>, <u, E_label>
  for (int c = threadIdx.x; c < vectors; c += kThreads) {
    const int first = c * kColumns;
    const Vector<Scalar, kColumns> xs = load_vector<kColumns>(x + first),
                                   us = load_vector<kColumns>(u + first),
                                   qs = load_vector<kColumns>(q + first),
                                   owns = load_vector<kColumns>(own + first);
    Vector<Scalar, kColumns> factor;
#pragma unroll
    for (int e = 0; e < kColumns; ++e) {
      factor.at[e] = narrow<Scalar>(l * widen(xs.at[e]) + w * widen(us.at[e]));
      of_q += widen(us.at[e]) * widen(qs.at[e]);
      of_label += widen(us.at[e]) * widen(owns.at[e]);
    }
    store_vector(static_cast<Scalar*>(a.factor_nd) + at + first, factor);
  }
  of_q = block_sum<kThreads>(of_q);
  const A mean = of_q + block_sum<kThreads>(of_label);
  if (threadIdx.x == 0) static_cast<A*>(a.weight_bar_n)[t] = of_q;

  for (int k = threadIdx.x / 32; k < count; k += kThreads / 32) {
    const A e = warp_dot<kColumns>(weight_vd + token[k] * a.width, u, vectors);
    if (threadIdx.x % 32 == 0) h[k] = w * probability[k] * (e - mean);
  }
  for (int k = count + static_cast<int>(threadIdx.x); k < places; k += kThreads) h[k] = 0;
  __syncthreads();

  for (int c = threadIdx.x; c < vectors; c += kThreads) {
    const int first = c * kColumns;
    const Vector<Scalar, kColumns> qs = load_vector<kColumns>(q + first);
    A sum[kColumns];
#pragma unroll
    for (int e = 0; e < kColumns; ++e) sum[e] = l * widen(qs.at[e]);
    add_rows<kColumns, Scalar>(
        sum, 0, count, 1, [&](int64_t k) { return weight_vd + token[k] * a.width + first; },
        [&](int64_t k) { return h[k]; });
    Vector<Scalar, kColumns> x_bar;
#pragma unroll
    for (int e = 0; e < kColumns; ++e) x_bar.at[e] = narrow<Scalar>(sum[e]);
    store_vector(static_cast<Scalar*>(a.x_bar_nd) + at + first, x_bar);
  }
}

}  // namespace

cudaError_t launch_likely_hessian(ScalarType type, const LikelyHessianArguments& a, cudaStream_t stream) {
  if (a.rows == 0) return cudaSuccess;
  return dispatch(type, [&](auto* tag) {
    using Scalar = std::remove_pointer_t<decltype(tag)>;
    const bool wide = on_vectors(a.x_nd, a.u_nd, a.q_nd, a.unembedding_vd, a.x_bar_nd, a.factor_nd);
    choose_columns<Scalar>(a.width, wide, [&](auto columns) {
      const auto kernel = likely_hessian_kernel<Scalar, decltype(columns)::value>;
      kernel<<<static_cast<unsigned>(a.rows), kThreads, 0, stream>>>(a);
    });
  });
}

}  // namespace fwl::cuda
