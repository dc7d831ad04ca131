// Which shapes the fused and the vectorised GPU kernels take, as functions of sizes alone. The dispatch asks
// them, and so does the line that a run begins with (core/model/fused_parts.h): what is said is what is done.
// Whether cuDNN has a plan for a shape is known where it is made, which then says so (plans_cudnn.h).
// Free of LibTorch: .cu files include it.
#pragma once

#include <cstdint>

namespace fwl {

// Why a shape is not taken: "<what> <value> <limit>"; false: it is taken.
struct Refusal {
  const char* what = nullptr;
  int64_t value = -1;  // below 0: there is nothing to name
  const char* limit = "";
  constexpr explicit operator bool() const { return what != nullptr; }
};

// Kernels over rows read 16 bytes at a time, where rows are made of whole such vectors.
constexpr bool are_whole_vectors(int64_t elements, int64_t element_bytes) {
  return elements * element_bytes % 16 == 0;
}
constexpr Refusal refusal_of_vectors(const char* what, int64_t elements, int64_t element_bytes) {
  if (are_whole_vectors(elements, element_bytes)) return {};
  return {what, elements,
          element_bytes == 2   ? "is no multiple of 8"
          : element_bytes == 4 ? "is no multiple of 4"
                               : "is no multiple of 2"};
}

// norm.h and the norm's gradient: a row is in the registers of some warps.
constexpr int64_t kMostNormVectors = 16;  // of a row, for each lane of a warp
constexpr Refusal refusal_of_norm(const char* what, int64_t width, int64_t element_bytes) {
  if (const Refusal vectors = refusal_of_vectors(what, width, element_bytes)) return vectors;
  if (width * element_bytes <= 16 * 32 * kMostNormVectors) return {};
  return {what, width,
          element_bytes == 2   ? "is above 4096"
          : element_bytes == 4 ? "is above 2048"
                               : "is above 1024"};
}

// step_rows.h: one scale a column.
constexpr Refusal refusal_of_step_rows(const char* what, int64_t width, int64_t element_bytes,
                                       bool one_scale_a_column) {
  if (!one_scale_a_column) return {"the step size", -1, "is one number for all rows"};
  return refusal_of_vectors(what, width, element_bytes);
}

// fused_attention.h (cuDNN), and FlashAttention beside it.
struct FusedAttentionShape {
  bool bfloat16_on_gpu = false;
  int64_t head_width = 0, queries = 0, keys = 0;
};
constexpr Refusal refusal_of_fused_attention(const FusedAttentionShape& s) {
  if (!s.bfloat16_on_gpu) return {"the type", -1, "is not bfloat16"};
  if (s.head_width % 8 != 0) return {"head width", s.head_width, "is no multiple of 8"};
  if (s.head_width > 128) return {"head width", s.head_width, "is above 128"};
  // Texts of all lengths would each want a plan.
  if (s.queries % 128 != 0) return {"queries", s.queries, "are no multiple of 128"};
  if (s.keys < s.queries) return {"keys", s.keys, "are fewer than the queries"};
  return {};
}
constexpr bool suits_flash_attention(const FusedAttentionShape& s) {
  return s.bfloat16_on_gpu && s.head_width % 8 == 0 && s.head_width <= 256;
}

// fused_products.h: tokens by width, times a weight of width and hidden in either order.
struct ProductShape {
  bool bfloat16_on_gpu = false;
  int64_t tokens = 0, width = 0, hidden = 0;
  bool gradient = false;
};
constexpr int64_t kProductTokens = 1024;  // a plan is for a multiple of them
constexpr Refusal refusal_of_fused_products(const ProductShape& s) {
  if (!s.bfloat16_on_gpu) return {"the type", -1, "is not bfloat16"};
  if (s.tokens < 4096) return {"B T", s.tokens, "is below 4096"};
  if (s.width % 8 != 0) return {"width", s.width, "is no multiple of 8"};
  if (s.hidden % 8 != 0) return {"feed-forward width", s.hidden, "is no multiple of 8"};
  if (s.gradient && s.tokens % kProductTokens != 0) return {"B T", s.tokens, "is no multiple of 1024"};
  return {};
}
// The feed-forward's kind that has them.
constexpr Refusal refusal_of_fused_feed_forward(bool squared_relu, bool up_bias) {
  if (!squared_relu) return {"the activation", -1, "is not the squared ReLU"};
  if (up_bias) return {"the first product", -1, "has a bias"};
  return {};
}

}  // namespace fwl
