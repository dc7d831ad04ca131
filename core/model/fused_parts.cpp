#include "core/model/fused_parts.h"

#include <cmath>

#include "core/base/error.h"
#include "core/kernels/fused_shapes.h"
#include "core/model/attention.h"

namespace fwl {
namespace {

std::string words_of(const Refusal& r) {
  if (!r) return {};
  return r.value < 0 ? cat(r.what, " ", r.limit) : cat(r.what, " ", r.value, " ", r.limit);
}

const char* name_of(AttentionKernel kernel) {
  switch (kernel) {
    case AttentionKernel::kSquare:
      return "LibTorch's kernel";
    case AttentionKernel::kFlash:
      return "FlashAttention";
    case AttentionKernel::kMasked:
      return "a mask in memory";
    case AttentionKernel::kInBlocks:
      return "blocks with masks in memory";
  }
  throw InternalError("unknown attention kernel");
}

std::string attention_refusal(const ModelConfig& c, const ForwardShape& s) {
  if (c.document_mask) return "model.document_mask: windows in which a document begins have a mask in memory";
  const int64_t positions = s.queries > 0 ? s.queries : s.positions;
  const FusedAttentionShape shape{s.type == at::kBFloat16, c.width / c.heads, positions, positions};
  const Refusal refusal =
      s.cudnn ? refusal_of_fused_attention(shape) : Refusal{"this build", -1, "has no cuDNN"};
  if (!refusal) return {};
  return cat(words_of(refusal), ", so ", name_of(attention_kernel(shape, c.window)));
}

std::string feed_forward_refusal(const ModelConfig& c, const ForwardShape& s) {
  if (const Refusal kind =
          refusal_of_fused_feed_forward(c.feed_forward == "squared_relu", c.projection_biases))
    return words_of(kind);
  if (!s.cudnn) return "this build has no cuDNN";
  const int64_t hidden = std::llround(c.feed_forward_ratio * static_cast<double>(c.width));
  return words_of(refusal_of_fused_products(
      {s.type == at::kBFloat16, s.rows * s.positions, c.width, hidden, s.gradient}));
}

}  // namespace

ForwardShape forward_shape(const LanguageModel& model, const InnerApproximation& inner, int64_t rows,
                           int64_t positions) {
  ForwardShape shape{model.device(), model.compute_type(), rows, positions};
  const char* const unembedding = model.config().tied_embedding ? "embedding" : "unembedding.weight";
  if (inner.float8_logits) shape.multiplies_float8 = multiplies_float8(model.parameters().leaf(unembedding));
  return shape;
}

std::vector<FusedPart> fused_parts(const ModelConfig& c, const ForwardShape& s) {
  if (!s.device.is_cuda()) return {};
  const auto bytes = static_cast<int64_t>(c10::elementSize(s.type));
  const FastWeightConfig& f = c.fast_weight;
  const int64_t hidden = layer_width(c);
  std::vector<FusedPart> parts;
  if (c.layers > 0) {
    parts.push_back({"attention", attention_refusal(c, s)});
    parts.push_back({"feed-forward products", feed_forward_refusal(c, s)});
  }
  parts.push_back({"norms", words_of(refusal_of_norm("width", c.width, bytes))});
  if (f.learns()) {
    // Of keys that are as wide as the layer's hidden units; those of the model's width are the norms' case.
    if (f.key_norm != "none")
      parts.push_back({"key norm", words_of(refusal_of_norm("the layer's width", hidden, bytes))});
    const bool by_row = f.step_size == "row";
    std::string steps = words_of(refusal_of_step_rows("width", c.width, bytes, by_row));
    if (steps.empty() && f.fast_layers == "both")
      steps = words_of(refusal_of_step_rows("the layer's width", hidden, bytes, by_row));
    parts.push_back({"fast steps", steps});
  }
  parts.push_back({"vocabulary rows", words_of(refusal_of_vectors("vocabulary", c.vocab_size, bytes))});
  if (s.multiplies_float8)
    parts.push_back(
        {"8-bit inner logits",
         *s.multiplies_float8 ? "" : "no 8-bit products of this GPU, type, vocabulary and width"});
  return parts;
}

std::string describe(const std::vector<FusedPart>& parts) {
  std::string fused, others;
  for (const FusedPart& part : parts) {
    std::string& list = part.why_not.empty() ? fused : others;
    if (!list.empty()) list += ", ";
    list += part.why_not.empty() ? part.name : cat(part.name, " (", part.why_not, ")");
  }
  if (parts.empty()) return {};
  if (others.empty()) return cat("GPU kernels: all fused (", fused, ")");
  if (fused.empty()) return cat("GPU kernels: none fused: ", others);
  return cat("GPU kernels: fused ", fused, "; not fused, slower: ", others);
}

}  // namespace fwl
