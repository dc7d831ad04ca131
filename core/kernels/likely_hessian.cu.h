// Launchers of likely_hessian.cu: raw pointers, no LibTorch.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "core/kernels/scalar_type.cu.h"

namespace fwl::cuda {

// Shapes and meaning: likely_hessian.h. All contiguous; rows of width d begin at multiples of 16 bytes.
struct LikelyHessianArguments {
  const int32_t* token_nk;
  const void* probability_nk;
  const void *x_nd, *u_nd, *q_nd;
  const int64_t* label_n;
  const void *weight_n, *nll_bar_n, *unembedding_vd;
  void *x_bar_nd, *factor_nd, *h_nk, *weight_bar_n;
  int64_t rows, width, places;
};
// One thread block a row. Enqueues on `stream`; returns the launch's error.
cudaError_t launch_likely_hessian(ScalarType type, const LikelyHessianArguments& arguments,
                                  cudaStream_t stream);

// The listed pairs by token: pair[first_v[v]] to pair[first_v[v + 1] - 1] are those of token v, as n places +
// k.
struct ListedProductsArguments {
  const int64_t *first_v, *pair;
  const void *h_nk, *x_nd;
  void* sum_vd;
  int64_t* listed;    // [vocabulary], written: the tokens that are in some list
  int* listed_count;  // 0 at the start
  int64_t vocabulary, width, places;
};
// One thread block a listed token.
cudaError_t launch_listed_products(ScalarType type, const ListedProductsArguments& arguments,
                                   cudaStream_t stream);

}  // namespace fwl::cuda
