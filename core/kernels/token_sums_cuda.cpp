#include "core/kernels/token_sums_cuda.h"

#include <limits>

#include "core/kernels/launch_cuda.h"
#include "core/kernels/token_sums.cu.h"

namespace fwl::cuda {
namespace {

// Keys in the order of the tokens, as short as these allow: a radix sort reads them once for every byte. -1
// stays below all tokens.
struct Keys {
  at::ScalarType type;
  int64_t shift;
};
Keys keys_for(int64_t vocabulary) {
  constexpr int64_t kLeast = std::numeric_limits<int16_t>::min(), kMost = std::numeric_limits<int16_t>::max();
  return vocabulary <= kMost - kLeast - 1 ? Keys{at::kShort, kLeast + 1} : Keys{at::kInt, 0};
}

}  // namespace

void add_token_sums_(Tensor& sum_vd, const Tensor& token_nk, const Tensor& factor_nk,
                     const Tensor& any_x_nd) {
  const Tensor x_nd = on_vectors(any_x_nd);
  const int64_t vocabulary = sum_vd.size(0);
  const Keys keys = keys_for(vocabulary);
  const Tensor flat = token_nk.flatten();
  // By token, those of one token in the order of rows; what is no token comes first.
  const auto [key, pair] =
      at::sort(keys.shift == 0 ? flat : (flat + keys.shift).to(keys.type), /*stable=*/true, 0,
               /*descending=*/false);
  const Tensor first_v = at::searchsorted(
      key, at::arange(keys.shift, keys.shift + vocabulary + 1, key.options()), /*out_int32=*/false);
  const Tensor listed = at::empty({2, vocabulary}, first_v.options()),
               count = at::zeros({2}, token_nk.options());
  check_launch(launch_token_sums(scalar_type_of(x_nd),
                                 {first_v.const_data_ptr<int64_t>(), pair.const_data_ptr<int64_t>(),
                                  factor_nk.const_data_ptr(), x_nd.const_data_ptr(), sum_vd.data_ptr(),
                                  listed.data_ptr<int64_t>(), count.data_ptr<int>(), vocabulary,
                                  sum_vd.size(1), token_nk.size(1)},
                                 c10::cuda::getCurrentCUDAStream()),
               "token_sums");
}

}  // namespace fwl::cuda
