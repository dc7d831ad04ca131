#include "core/model/attention.h"

#include <algorithm>
#include <limits>

#include "core/base/error.h"
#include "core/kernels/fused_attention.h"

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

Tensor banded_attention(const Tensor& q_bhte, const Tensor& k_bhte, const Tensor& v_bhte, int64_t window) {
  const int64_t queries = q_bhte.size(2), keys = k_bhte.size(2);
  return masked_attention(q_bhte, k_bhte, v_bhte,
                          band_mask(queries, keys, keys - queries, window, q_bhte.options()));
}

Tensor square_attention(const Tensor& q_bhte, const Tensor& k_bhte, const Tensor& v_bhte) {
  return at::scaled_dot_product_attention(q_bhte, k_bhte, v_bhte, std::nullopt, 0.0, /*is_causal=*/true);
}

// The window in blocks of its own size: a block's queries reach into their own block and the one before, so
// the work is linear in the length. The first block reaches into the `before` < window keys that precede the
// queries.
Tensor blocked_window_attention(const Tensor& q_bhte, const Tensor& k_bhte, const Tensor& v_bhte,
                                int64_t window) {
  const int64_t batch = q_bhte.size(0), heads = q_bhte.size(1), length = q_bhte.size(2),
                head_dim = q_bhte.size(3), before = k_bhte.size(2) - length;
  const int64_t blocks = (length + window - 1) / window;
  const int64_t padding = blocks * window - length;
  const auto pad = [&](const Tensor& x) {
    return padding == 0 ? x : at::constant_pad_nd(x, {0, 0, 0, padding});
  };
  const Tensor q = pad(q_bhte), k = pad(k_bhte), v = pad(v_bhte);
  const Tensor first_q = q.narrow(2, 0, window), first_k = k.narrow(2, 0, before + window),
               first_v = v.narrow(2, 0, before + window);
  const Tensor first = before == 0 ? square_attention(first_q, first_k, first_v)
                                   : banded_attention(first_q, first_k, first_v, window);
  if (blocks == 1) return first.narrow(2, 0, length);
  const int64_t rest = blocks - 1;
  // [B, rest, H, 2W, E]: block g behind block g - 1, then one batch dim for (b, block). A copy each: the
  // gradient of overlapping views is slow.
  const auto pairs = [&](const Tensor& x) {
    const auto from = [&](int64_t start) {
      return x.narrow(2, before + start, rest * window)
          .reshape({batch, heads, rest, window, head_dim})
          .transpose(1, 2);
    };
    return at::cat({from(0), from(window)}, 3).flatten(0, 1);
  };
  const Tensor queries = q.narrow(2, window, rest * window)
                             .reshape({batch, heads, rest, window, head_dim})
                             .transpose(1, 2)
                             .reshape({batch * rest, heads, window, head_dim});
  const Tensor others = banded_attention(queries, pairs(k), pairs(v), window)
                            .view({batch, rest, heads, window, head_dim})
                            .transpose(1, 2)
                            .reshape({batch, heads, rest * window, head_dim});
  return at::cat({first, others}, 2).narrow(2, 0, length);
}

// FlashAttention, whose causal mask is aligned at the last query and key: no mask in memory, nothing outside
// the band is computed. window <= 0: all earlier keys.
Tensor flash_attention(const Tensor& q_bhte, const Tensor& k_bhte, const Tensor& v_bhte, int64_t window) {
  const auto result = at::_flash_attention_forward(
      q_bhte.transpose(1, 2), k_bhte.transpose(1, 2), v_bhte.transpose(1, 2), std::nullopt, std::nullopt,
      q_bhte.size(2), k_bhte.size(2), 0.0, /*is_causal=*/true, /*return_debug_mask=*/false, std::nullopt,
      window > 0 ? std::optional<int64_t>(window - 1) : std::nullopt,
      window > 0 ? std::optional<int64_t>(0) : std::nullopt);
  return std::get<0>(result).transpose(1, 2);
}

// 0 where it leaves no key out.
int64_t effective_window(int64_t window, int64_t keys) {
  return window <= 0 || window >= keys ? 0 : window;
}

}  // namespace

AttentionKernel attention_kernel(const FusedAttentionShape& shape, int64_t any_window) {
  const int64_t window = effective_window(any_window, shape.keys);
  if (window == 0 && shape.queries == shape.keys) return AttentionKernel::kSquare;
  if (suits_flash_attention(shape)) return AttentionKernel::kFlash;
  return window == 0 || shape.queries <= window ? AttentionKernel::kMasked : AttentionKernel::kInBlocks;
}

Tensor causal_attention(const Tensor& q_bhte, const Tensor& k_bhte, const Tensor& v_bhte,
                        int64_t any_window) {
  const int64_t queries = q_bhte.size(2), keys = k_bhte.size(2);
  require<InternalError>(keys >= queries && v_bhte.size(2) == keys, "attention got queries ", q_bhte.sizes(),
                         ", keys ", k_bhte.sizes(), ", values ", v_bhte.sizes());
  const int64_t window = effective_window(any_window, keys);
  const int64_t reach = window > 0 ? std::min(keys, queries + window - 1) : keys;
  // A slice of everything would still cost its gradient a copy.
  const auto within_reach = [&](const Tensor& x) {
    return reach == keys ? x : x.narrow(2, keys - reach, reach);
  };
  const Tensor k = within_reach(k_bhte), v = within_reach(v_bhte);
  if (has_fused_attention(q_bhte, k, v, window)) return fused_attention(q_bhte, k, v, window);
  const FusedAttentionShape shape{q_bhte.is_cuda() && q_bhte.scalar_type() == at::kBFloat16, q_bhte.size(3),
                                  queries, keys};
  switch (attention_kernel(shape, window)) {
    case AttentionKernel::kSquare:
      return square_attention(q_bhte, k, v);
    case AttentionKernel::kFlash:
      return flash_attention(q_bhte, k, v, window);
    case AttentionKernel::kMasked:
      return banded_attention(q_bhte, k, v, window);
    case AttentionKernel::kInBlocks:
      return blocked_window_attention(q_bhte, k, v, window);
  }
  throw InternalError("unknown attention kernel");
}

Tensor document_mask(const Tensor& document_start_bt, int64_t window, const at::TensorOptions& options) {
  const int64_t length = document_start_bt.size(1);
  const Tensor document_bt = document_start_bt.to(at::kLong).cumsum(1);
  const Tensor other_btt = document_bt.unsqueeze(2) != document_bt.unsqueeze(1);
  return band_mask(length, length, 0, window, options)
      .masked_fill(other_btt, -std::numeric_limits<double>::infinity())
      .unsqueeze(1);
}

Tensor masked_attention(const Tensor& q_bhte, const Tensor& k_bhte, const Tensor& v_bhte,
                        const Tensor& mask_b1tt) {
  return at::scaled_dot_product_attention(q_bhte, k_bhte, v_bhte, mask_b1tt);
}

}  // namespace fwl
