#include "core/model/attention.h"

#include <limits>

#include "core/base/error.h"

namespace fwl {
namespace {

// Additive mask: 0 where query i may look at key j, -infinity elsewhere. Query i stands at position
// `query_offset` + i among the keys.
Tensor band_mask(int64_t queries, int64_t keys, int64_t query_offset, int64_t window,
                 const at::TensorOptions& options) {
  const auto index = options.dtype(at::kLong);
  const Tensor distance_ij =
      (at::arange(queries, index).unsqueeze(1) + query_offset) - at::arange(keys, index).unsqueeze(0);
  Tensor allowed_ij = distance_ij >= 0;
  if (window > 0) allowed_ij = allowed_ij & (distance_ij < window);
  return at::zeros({queries, keys}, options)
      .masked_fill_(allowed_ij.logical_not(), -std::numeric_limits<double>::infinity());
}

// The window in blocks of its own size: a block's queries reach into their own block and the one before, so
// the work is linear in the length. The first block has nothing before it.
Tensor blocked_window_attention(const Tensor& q_bhte, const Tensor& k_bhte, const Tensor& v_bhte,
                                int64_t window) {
  const int64_t batch = q_bhte.size(0), heads = q_bhte.size(1), length = q_bhte.size(2),
                head_dim = q_bhte.size(3);
  const int64_t blocks = (length + window - 1) / window;
  const int64_t padding = blocks * window - length;
  const auto pad = [&](const Tensor& x) {
    return padding == 0 ? x : at::constant_pad_nd(x, {0, 0, 0, padding});
  };
  const Tensor q = pad(q_bhte), k = pad(k_bhte), v = pad(v_bhte);
  const Tensor first =
      at::scaled_dot_product_attention(q.narrow(2, 0, window), k.narrow(2, 0, window), v.narrow(2, 0, window),
                                       std::nullopt, 0.0, /*is_causal=*/true);
  if (blocks == 1) return first.narrow(2, 0, length);
  const int64_t rest = blocks - 1;
  // [B, H, rest, 2W, E]: block g together with block g - 1, as overlapping views, then one batch dim for (b,
  // block).
  const auto pairs = [&](const Tensor& x) {
    return x.unfold(2, 2 * window, window)
        .permute({0, 2, 1, 4, 3})
        .reshape({batch * rest, heads, 2 * window, head_dim});
  };
  const Tensor queries = q.narrow(2, window, rest * window)
                             .view({batch, heads, rest, window, head_dim})
                             .transpose(1, 2)
                             .reshape({batch * rest, heads, window, head_dim});
  const Tensor mask = band_mask(window, 2 * window, window, window, q.options());
  const Tensor others = at::scaled_dot_product_attention(queries, pairs(k), pairs(v), mask)
                            .view({batch, rest, heads, window, head_dim})
                            .transpose(1, 2)
                            .reshape({batch, heads, rest * window, head_dim});
  return at::cat({first, others}, 2).narrow(2, 0, length);
}

// FlashAttention with a left window: no mask in memory, nothing outside the band is computed.
Tensor flash_window_attention(const Tensor& q_bhte, const Tensor& k_bhte, const Tensor& v_bhte,
                              int64_t window) {
  const int64_t length = q_bhte.size(2);
  const auto result =
      at::_flash_attention_forward(q_bhte.transpose(1, 2), k_bhte.transpose(1, 2), v_bhte.transpose(1, 2),
                                   std::nullopt, std::nullopt, length, length, 0.0, /*is_causal=*/true,
                                   /*return_debug_mask=*/false, std::nullopt, window - 1, 0);
  return std::get<0>(result).transpose(1, 2);
}

}  // namespace

RotaryTable rotary_table(int64_t first_position, int64_t length, int64_t head_dim, double base,
                         at::TensorOptions options) {
  // float64 angles: float32 ones lose a thousandth of a turn at position 65,536.
  const auto wide = options.dtype(at::kDouble);
  const Tensor exponent_e = at::arange(head_dim / 2, wide) * (-2.0 / static_cast<double>(head_dim));
  const Tensor frequency_e = at::pow(at::scalar_tensor(base, wide), exponent_e);
  const Tensor angle_te = at::outer(at::arange(first_position, first_position + length, wide), frequency_e);
  return {angle_te.cos().to(options.dtype()), angle_te.sin().to(options.dtype())};
}

Tensor rotate(const Tensor& x_bhte, const RotaryTable& table) {
  const auto halves = x_bhte.chunk(2, -1);
  return at::cat({halves[0] * table.cosine_te - halves[1] * table.sine_te,
                  halves[0] * table.sine_te + halves[1] * table.cosine_te},
                 -1);
}

Tensor causal_attention(const Tensor& q_bhte, const Tensor& k_bhte, const Tensor& v_bhte, int64_t window) {
  const int64_t length = q_bhte.size(2);
  if (window <= 0 || window >= length) {
    return at::scaled_dot_product_attention(q_bhte, k_bhte, v_bhte, std::nullopt, 0.0, /*is_causal=*/true);
  }
  if (q_bhte.is_cuda() && q_bhte.scalar_type() == at::kBFloat16)
    return flash_window_attention(q_bhte, k_bhte, v_bhte, window);
  return blocked_window_attention(q_bhte, k_bhte, v_bhte, window);
}

Tensor causal_attention_with_memory(const Tensor& q_bhte, const Tensor& k_bhte, const Tensor& v_bhte,
                                    int64_t window, AttentionMemory& memory) {
  const bool empty = !memory.key_bhte.defined();
  const Tensor key_bhte = empty ? k_bhte : at::cat({memory.key_bhte, k_bhte}, 2);
  const Tensor value_bhte = empty ? v_bhte : at::cat({memory.value_bhte, v_bhte}, 2);
  const int64_t keys = key_bhte.size(2), queries = q_bhte.size(2);
  const int64_t kept = window > 0 ? std::min(keys, window - 1) : keys;
  memory = {key_bhte.narrow(2, keys - kept, kept).detach(), value_bhte.narrow(2, keys - kept, kept).detach()};
  const Tensor mask = band_mask(queries, keys, keys - queries, window, q_bhte.options());
  return at::scaled_dot_product_attention(q_bhte, key_bhte, value_bhte, mask);
}

}  // namespace fwl
