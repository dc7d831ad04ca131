#include "core/kernels/likely_tokens.h"

#include <ATen/Parallel.h>

#include <algorithm>

#include "core/base/error.h"
#include "core/kernels/matmul.h"
#include "core/kernels/wide.h"

namespace fwl {
namespace {

constexpr int64_t kBlock = 64;  // of the vocabulary: looked at one by one where any is likely

template <typename T>
struct Lists {
  const T* probability_nv;
  int32_t* token_nk;
  T* probability_nk;
  int64_t vocabulary, places;
  T threshold;
};

template <typename T>
FWL_INLINE void list_rows(const Lists<T>& lists, int64_t begin, int64_t end) {
  for (int64_t n = begin; n < end; ++n) {
    const T* __restrict p = lists.probability_nv + n * lists.vocabulary;
    int32_t* const token = lists.token_nk + n * lists.places;
    T* const listed = lists.probability_nk + n * lists.places;
    int64_t count = 0;
    for (int64_t first = 0; first < lists.vocabulary; first += kBlock) {
      const int64_t last = std::min(first + kBlock, lists.vocabulary);
      int any = 0;
      for (int64_t v = first; v < last; ++v) any |= p[v] >= lists.threshold;
      if (any == 0) continue;
      for (int64_t v = first; v < last && count < lists.places; ++v) {
        if (!(p[v] >= lists.threshold)) continue;
        token[count] = static_cast<int32_t>(v);
        listed[count++] = p[v];
      }
    }
    std::fill(token + count, token + lists.places, -1);
    std::fill(listed + count, listed + lists.places, T(0));
  }
}

FWL_WIDE void run(const Lists<float>& lists, int64_t begin, int64_t end) {
  list_rows(lists, begin, end);
}
FWL_WIDE void run(const Lists<double>& lists, int64_t begin, int64_t end) {
  list_rows(lists, begin, end);
}

}  // namespace

int64_t likely_places(int64_t vocabulary, double threshold) {
  return static_cast<int64_t>(std::min(static_cast<double>(vocabulary), 1 / threshold + 1));
}

LikelyTokens room_for_likely_tokens(int64_t rows, int64_t vocabulary, double threshold, const Tensor& like) {
  require<InternalError>(threshold > 0 && threshold < 1, "likely tokens of a threshold of ", threshold);
  const int64_t places = likely_places(vocabulary, threshold);
  const auto options = like.options().dtype(accumulate_type(like.scalar_type())).requires_grad(false);
  return {at::empty({rows, places}, options.dtype(at::kInt)), at::empty({rows, places}, options)};
}

void list_likely_tokens(const Tensor& probability_nv, double threshold, const LikelyTokens& likely) {
  require<InternalError>(
      probability_nv.is_cpu() && probability_nv.is_contiguous() && likely.token_nk.is_contiguous() &&
          likely.probability_nk.is_contiguous() && likely.token_nk.size(0) == probability_nv.size(0),
      "list_likely_tokens got probabilities ", probability_nv.sizes(), ", lists ", likely.token_nk.sizes());
  AT_DISPATCH_FLOATING_TYPES(probability_nv.scalar_type(), "list_likely_tokens", [&] {
    const Lists<scalar_t> lists{probability_nv.const_data_ptr<scalar_t>(),
                                likely.token_nk.mutable_data_ptr<int32_t>(),
                                likely.probability_nk.mutable_data_ptr<scalar_t>(),
                                probability_nv.size(1),
                                likely.token_nk.size(1),
                                static_cast<scalar_t>(threshold)};
    at::parallel_for(0, probability_nv.size(0), 1,
                     [&](int64_t begin, int64_t end) { run(lists, begin, end); });
  });
}

}  // namespace fwl
