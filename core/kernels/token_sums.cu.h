// Launcher of token_sums.cu: raw pointers, no LibTorch.
#pragma once

#include <cuda_runtime_api.h>

#include <cstdint>

#include "core/kernels/scalar_type.cu.h"

namespace fwl::cuda {

// The pairs of a row and a place by token: pair[first_v[v]] to pair[first_v[v + 1] - 1] are those of token v,
// as n places + k. Shapes and meaning of the rest: token_sums.h.
struct TokenSumsArguments {
  const int64_t *first_v, *pair;
  const void *factor_nk, *x_nd;
  void* sum_vd;
  int64_t* listed;    // [2, vocabulary], written: the tokens that have few pairs, and those that have many
  int* listed_count;  // [2], 0 at the start
  int64_t vocabulary, width, places;
};
// Enqueues on `stream`; returns the launch's error.
cudaError_t launch_token_sums(ScalarType type, const TokenSumsArguments& arguments, cudaStream_t stream);

}  // namespace fwl::cuda
