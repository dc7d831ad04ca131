#include <algorithm>
#include <cmath>

#include "core/kernels/row_products.h"
#include "core/kernels/upload.h"

namespace fwl::by_aten {

Tensor row_product(const Tensor& x_nk, const Tensor& w_mk, const Tensor& bias_m) {
  return at::linear(x_nk, w_mk,
                    bias_m.defined() ? std::optional<Tensor>(bias_m) : std::optional<Tensor>(std::nullopt));
}

Tensor row_product_transposed(const Tensor& x_nm, const Tensor& w_mk) {
  return at::mm(x_nm, w_mk);
}

// One product: token t is left with the decays of the tokens after it.
void add_outer_products_(Tensor& state_vk, const std::vector<double>& decay_t, const Tensor& v_tv,
                         const Tensor& k_tk) {
  const at::ScalarType type = state_vk.scalar_type();
  if (decay_t.size() == 1) {
    state_vk.mul_(decay_t.front()).addmm_(v_tv.to(type).t(), k_tk.to(type));
    return;
  }
  std::vector<double> left(decay_t.size());
  double product = 1;
  for (size_t t = decay_t.size(); t-- > 0; product *= decay_t[t]) left[t] = product;
  const Tensor left_t1 = uploaded(left, state_vk.device()).to(type).unsqueeze(1);
  state_vk.mul_(product).addmm_((v_tv * left_t1).t(), k_tk.to(type));
}

Tensor attend_ring(AttentionRing& ring, const Tensor& q_the, const Tensor& k_the, const Tensor& v_the,
                   int64_t first_position, int64_t reach) {
  const int64_t slots = ring.key_hce.size(1), tokens = q_the.size(0);
  const double scale = 1 / std::sqrt(static_cast<double>(q_the.size(2)));
  std::vector<Tensor> out;
  for (int64_t t = 0; t < tokens; ++t) {
    const int64_t position = first_position + t, count = std::min(position + 1, reach);
    ring.key_hce.select(1, position % slots).copy_(k_the[t]);
    ring.value_hce.select(1, position % slots).copy_(v_the[t]);
    // The last `count` slots up to this one, in at most two pieces.
    const int64_t end = position % slots + 1, tail = std::min(count, end);
    const auto seen = [&](const Tensor& x_hce) {
      const Tensor last = x_hce.narrow(1, end - tail, tail);
      return tail == count ? last : at::cat({x_hce.narrow(1, slots - (count - tail), count - tail), last}, 1);
    };
    const Tensor score_h1c = at::bmm(q_the[t].unsqueeze(1), seen(ring.key_hce).transpose(1, 2)) * scale;
    out.push_back(at::bmm(score_h1c.softmax(-1), seen(ring.value_hce)).squeeze(1));
  }
  return at::stack(out);
}

}  // namespace fwl::by_aten
