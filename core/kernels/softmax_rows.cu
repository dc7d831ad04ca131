#include "core/kernels/logit_rows.cuh"
#include "core/kernels/softmax_rows.cu.h"

namespace fwl::cuda {
namespace {

constexpr int kLossThreads = 128;
constexpr int kShortRowThreads = 256, kShortGradientThreads = 128;
// Of a multiprocessor, by registers.
template <int kThreads>
constexpr int kGradientBlocks = kThreads == kMostThreads       ? 2
                                : kThreads == kShortRowThreads ? 4
                                                               : 6;

template <typename Scalar, int kCount, int kThreads>
__global__ void __launch_bounds__(kThreads)
    cross_entropy_kernel(const Scalar* logits, const int64_t* label, AccumulateOf<Scalar>* nll,
                         int64_t vocabulary) {
  using A = AccumulateOf<Scalar>;
  const int64_t t = blockIdx.x;
  const Scalar* const row = logits + t * vocabulary;
  const A log_sum = log_sum_of<kThreads, A, kCount>(row, static_cast<int>(vocabulary / kCount),
                                                    [](int, const Vector<Scalar, kCount>&) {});
  if (threadIdx.x == 0) nll[t] = log_sum - widen(row[label[t]]);
}

// Writes a row's list.
template <int kCount, int kThreads, typename A, typename Scalar>
__device__ void list_likely(const LikelyRow<kThreads, A>& likely, const Scalar* row,
                            const ShiftedExponential<A>& power, const LikelyTokensArguments& a) {
  int32_t* const token = a.token_nk + blockIdx.x * a.places;
  A* const probability = static_cast<A*>(a.probability_nk) + blockIdx.x * a.places;
  const int places = static_cast<int>(a.places);
  int total = 0, next = exclusive_sum<kThreads>(likely.count(), &total);
  likely.template for_each<kCount>(row, [&](int v, A logit) {
    if (next < places) {
      token[next] = v;
      probability[next] = power(logit);
    }
    ++next;
  });
  for (int k = total + static_cast<int>(threadIdx.x); k < places; k += kThreads) {
    token[k] = -1;
    probability[k] = 0;
  }
}

// All of a row that is staged is under way at once.
template <typename Scalar, int kCount, bool kStaged, int kThreads, bool kLists>
__global__ void __launch_bounds__(kThreads, kGradientBlocks<kThreads>)
    cross_entropy_gradient_kernel(Scalar* logits, const int64_t* label, const AccumulateOf<Scalar>* weight,
                                  AccumulateOf<Scalar>* nll, const LikelyTokensArguments lists,
                                  int64_t vocabulary) {
  using A = AccumulateOf<Scalar>;
  extern __shared__ __align__(16) unsigned char stage_bytes[];
  Scalar* const stage = reinterpret_cast<Scalar*>(stage_bytes);
  const int64_t t = blockIdx.x;
  const int vectors = static_cast<int>(vocabulary / kCount);
  Scalar* const row = logits + t * vocabulary;
  const Scalar* const read = kStaged ? stage : row;
  if constexpr (kStaged) {  // a thread reads what it has copied itself
    for (int v = threadIdx.x; v < vectors; v += kThreads) copy_async_16(stage + v * kCount, row + v * kCount);
  }
  const int y = static_cast<int>(label[t]);
  const A w = weight == nullptr ? A(1) : weight[t];
  if constexpr (kStaged) wait_for_all_copies();
  const A log_sum = log_sum_of<kThreads, A, kCount>(read, vectors, [](int, const Vector<Scalar, kCount>&) {});
  const ShiftedExponential<A> power(log_sum);
  LikelyRow<kThreads, A> likely(vectors, log_sum + static_cast<A>(lists.log_threshold));
  if (kLists && !kStaged) {  // before it is overwritten; a thread meets the vectors that it will write
    for_each_vector<kThreads, kCount>(row, vectors,
                                      [&](int v, const Vector<Scalar, kCount>& x) { likely.look_at(v, x); });
    list_likely<kCount>(likely, row, power, lists);
  }
  if (threadIdx.x == 0) nll[t] = log_sum - widen(read[y]);
  if (!kStaged) __syncthreads();  // the label's logit is read before it is overwritten
  for_each_vector<kThreads, kCount>(read, vectors, [&](int v, const Vector<Scalar, kCount>& x) {
    Vector<Scalar, kCount> out;
    const int label_at = y - v * kCount;
    if (kLists && kStaged) likely.look_at(v, x);
#pragma unroll
    for (int e = 0; e < kCount; ++e)
      out.at[e] = narrow<Scalar>(w * (power(widen(x.at[e])) - (e == label_at ? A(1) : A(0))));
    store_vector_whole(row + v * kCount, out);
  });
  if (kLists && kStaged) list_likely<kCount>(likely, stage, power, lists);
}

// The logits' normaliser is nll + logit of the label, so that no pass is needed for it.
template <typename Scalar, int kCount, bool kStaged, int kThreads>
__global__ void __launch_bounds__(kThreads)
    cross_entropy_gradient_backward_kernel(Scalar* logits, Scalar* error_bar, const int64_t* label,
                                           const AccumulateOf<Scalar>* weight,
                                           const AccumulateOf<Scalar>* nll,
                                           const AccumulateOf<Scalar>* nll_bar, int64_t vocabulary) {
  using A = AccumulateOf<Scalar>;
  extern __shared__ __align__(16) unsigned char stage_bytes[];
  Scalar* const stage = reinterpret_cast<Scalar*>(stage_bytes);
  const int64_t t = blockIdx.x;
  const int vectors = static_cast<int>(vocabulary / kCount), y = static_cast<int>(label[t]);
  Scalar* const row = logits + t * vocabulary;
  Scalar* const bar = error_bar + t * vocabulary;
  const ShiftedExponential<A> power(nll[t] + widen(row[y]));
  A dot = 0;
  for_each_vector<kThreads, kCount>(row, vectors, [&](int v, const Vector<Scalar, kCount>& x) {
    const Vector<Scalar, kCount> b = load_vector<kCount>(bar + v * kCount);
#pragma unroll
    for (int e = 0; e < kCount; ++e) dot += power(widen(x.at[e])) * widen(b.at[e]);
    if (kStaged) store_vector(stage + v * kCount, x);
  });
  dot = block_sum<kThreads>(dot);
  const A w = weight[t], l = nll_bar[t];
  for_each_vector<kThreads, kCount>(bar, vectors, [&](int v, const Vector<Scalar, kCount>& b) {
    const Vector<Scalar, kCount> x = load_vector<kCount>((kStaged ? stage : row) + v * kCount);
    Vector<Scalar, kCount> bar_out, error_out;
#pragma unroll
    for (int e = 0; e < kCount; ++e) {
      const A p = power(widen(x.at[e]));
      const A residual = p - (v * kCount + e == y ? A(1) : A(0));
      bar_out.at[e] = narrow<Scalar>(l * residual + w * p * (widen(b.at[e]) - dot));
      error_out.at[e] = narrow<Scalar>(w * residual);
    }
    store_vector(bar + v * kCount, bar_out);
    store_vector(row + v * kCount, error_out);
  });
}

// p is the residual, and 1 more at the label.
template <typename Scalar, int kCount, bool kStaged, int kThreads>
__global__ void __launch_bounds__(kThreads)
    cross_entropy_residual_backward_kernel(const Scalar* residual, Scalar* error_bar, const int64_t* label,
                                           const AccumulateOf<Scalar>* weight,
                                           const AccumulateOf<Scalar>* nll_bar, int64_t vocabulary) {
  using A = AccumulateOf<Scalar>;
  extern __shared__ __align__(16) unsigned char stage_bytes[];
  Scalar* const stage = reinterpret_cast<Scalar*>(stage_bytes);
  const int64_t t = blockIdx.x;
  const int vectors = static_cast<int>(vocabulary / kCount), y = static_cast<int>(label[t]);
  const Scalar* const row = residual + t * vocabulary;
  Scalar* const bar = error_bar + t * vocabulary;
  A dot = 0;
  for_each_vector<kThreads, kCount>(bar, vectors, [&](int v, const Vector<Scalar, kCount>& b) {
    const Vector<Scalar, kCount> r = load_vector<kCount>(row + v * kCount);
#pragma unroll
    for (int e = 0; e < kCount; ++e) dot += widen(r.at[e]) * widen(b.at[e]);
    if (kStaged) store_vector(stage + v * kCount, b);
  });
  dot = block_sum<kThreads>(dot) + widen(bar[y]);
  const A w = weight[t], l = nll_bar[t];
  __syncthreads();  // the label's cotangent is read before it is overwritten
  for_each_vector<kThreads, kCount>(row, vectors, [&](int v, const Vector<Scalar, kCount>& r) {
    const Vector<Scalar, kCount> b = load_vector<kCount>((kStaged ? stage : bar) + v * kCount);
    Vector<Scalar, kCount> out;
    const int label_at = y - v * kCount;
#pragma unroll
    for (int e = 0; e < kCount; ++e) {
      const A weighted = w * (widen(b.at[e]) - dot);
      out.at[e] = narrow<Scalar>(widen(r.at[e]) * (l + weighted) + (e == label_at ? weighted : A(0)));
    }
    store_vector(bar + v * kCount, out);
  });
}

}  // namespace

cudaError_t launch_cross_entropy_gradient(ScalarType type, void* logits_nv, const int64_t* label_n,
                                          const void* weight_n, void* nll_n,
                                          const LikelyTokensArguments& likely, int64_t rows,
                                          int64_t vocabulary, cudaStream_t stream) {
  if (rows == 0) return cudaSuccess;
  return dispatch(type, [&](auto* tag) {
    using Scalar = std::remove_pointer_t<decltype(tag)>;
    using A = AccumulateOf<Scalar>;
    const auto run = [&](auto lists) {
      constexpr bool kLists = decltype(lists)::value;
      constexpr int kShort = kLists ? kShortRowThreads : kShortGradientThreads;
      choose_form<Scalar, kShort>(
          vocabulary, on_vectors(logits_nv), [&](auto count, auto staged, auto threads, size_t bytes) {
            constexpr int kCount = decltype(count)::value, kOfBlock = decltype(threads)::value;
            constexpr bool kStaged = decltype(staged)::value;
            const auto kernel = cross_entropy_gradient_kernel<Scalar, kCount, kStaged, kOfBlock, kLists>;
            allow_shared(kernel, bytes);
            kernel<<<static_cast<unsigned>(rows), kOfBlock, bytes, stream>>>(
                static_cast<Scalar*>(logits_nv), label_n, static_cast<const A*>(weight_n),
                static_cast<A*>(nll_n), likely, vocabulary);
          });
    };
    if (likely.token_nk != nullptr) {
      run(std::true_type());
    } else {
      run(std::false_type());
    }
  });
}

cudaError_t launch_cross_entropy(ScalarType type, const void* logits_nv, const int64_t* label_n, void* nll_n,
                                 int64_t rows, int64_t vocabulary, cudaStream_t stream) {
  if (rows == 0) return cudaSuccess;
  return dispatch(type, [&](auto* tag) {
    using Scalar = std::remove_pointer_t<decltype(tag)>;
    // Nothing is staged: few threads a row, many rows a multiprocessor.
    const bool wide = vocabulary % kVector<Scalar> == 0 && on_vectors(logits_nv);
    const auto kernel = wide ? cross_entropy_kernel<Scalar, kVector<Scalar>, kLossThreads>
                             : cross_entropy_kernel<Scalar, 1, kLossThreads>;
    kernel<<<static_cast<unsigned>(rows), kLossThreads, 0, stream>>>(
        static_cast<const Scalar*>(logits_nv), label_n, static_cast<AccumulateOf<Scalar>*>(nll_n),
        vocabulary);
  });
}

cudaError_t launch_cross_entropy_gradient_backward(ScalarType type, void* logits_nv, void* error_bar_nv,
                                                   const int64_t* label_n, const void* weight_n,
                                                   const void* nll_n, const void* nll_bar_n, int64_t rows,
                                                   int64_t vocabulary, cudaStream_t stream) {
  if (rows == 0) return cudaSuccess;
  return dispatch(type, [&](auto* tag) {
    using Scalar = std::remove_pointer_t<decltype(tag)>;
    using A = AccumulateOf<Scalar>;
    choose_form<Scalar, kShortRowThreads>(
        vocabulary, on_vectors(logits_nv, error_bar_nv),
        [&](auto count, auto staged, auto threads, size_t bytes) {
          const auto kernel =
              cross_entropy_gradient_backward_kernel<Scalar, decltype(count)::value, decltype(staged)::value,
                                                     decltype(threads)::value>;
          allow_shared(kernel, bytes);
          kernel<<<static_cast<unsigned>(rows), decltype(threads)::value, bytes, stream>>>(
              static_cast<Scalar*>(logits_nv), static_cast<Scalar*>(error_bar_nv), label_n,
              static_cast<const A*>(weight_n), static_cast<const A*>(nll_n), static_cast<const A*>(nll_bar_n),
              vocabulary);
        });
  });
}

cudaError_t launch_cross_entropy_residual_backward(ScalarType type, const void* residual_nv,
                                                   void* error_bar_nv, const int64_t* label_n,
                                                   const void* weight_n, const void* nll_bar_n, int64_t rows,
                                                   int64_t vocabulary, cudaStream_t stream) {
  if (rows == 0) return cudaSuccess;
  return dispatch(type, [&](auto* tag) {
    using Scalar = std::remove_pointer_t<decltype(tag)>;
    using A = AccumulateOf<Scalar>;
    choose_form<Scalar, kShortRowThreads>(
        vocabulary, on_vectors(residual_nv, error_bar_nv),
        [&](auto count, auto staged, auto threads, size_t bytes) {
          const auto kernel =
              cross_entropy_residual_backward_kernel<Scalar, decltype(count)::value, decltype(staged)::value,
                                                     decltype(threads)::value>;
          allow_shared(kernel, bytes);
          kernel<<<static_cast<unsigned>(rows), decltype(threads)::value, bytes, stream>>>(
              static_cast<const Scalar*>(residual_nv), static_cast<Scalar*>(error_bar_nv), label_n,
              static_cast<const A*>(weight_n), static_cast<const A*>(nll_bar_n), vocabulary);
        });
  });
}

}  // namespace fwl::cuda
