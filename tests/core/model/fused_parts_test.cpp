// What a run says about its kernels, through the functions that the dispatch asks.
#include "core/model/fused_parts.h"

#include <gtest/gtest.h>

#include <functional>

namespace fwl {
namespace {

ModelConfig large() {
  ModelConfig c;
  c.layers = 12;
  c.width = 768;
  c.heads = 12;
  c.context = 1024;
  c.vocab_size = 50304;
  return c;
}
ForwardShape on_gpu() {
  return {at::Device(at::kCUDA, 0), at::kBFloat16, 16, 1024, 0, true, true, {}};
}

std::string line(const ModelConfig& c, const ForwardShape& s) {
  return describe(fused_parts(c, s));
}

TEST(FusedParts, ACpuHasNothingToSay) {
  ForwardShape shape = on_gpu();
  shape.device = at::kCPU;
  EXPECT_EQ(line(large(), shape), "");
}

TEST(FusedParts, ADefaultModelOfWholeShapesIsFused) {
  EXPECT_EQ(
      line(large(), on_gpu()),
      "GPU kernels: all fused (attention, feed-forward products, norms, key norm, fast steps, vocabulary "
      "rows)");
}

TEST(FusedParts, WhatIsNotFusedIsNamedWithItsReason) {
  struct Row {
    const char* name;
    std::function<void(ModelConfig&, ForwardShape&)> change;
    std::vector<const char*> said;  // each part that is not fused, and why
  };
  const std::vector<Row> rows = {
      {"GPT-2's vocabulary",
       [](ModelConfig& c, ForwardShape&) { c.vocab_size = 50257; },
       {"vocabulary rows (vocabulary 50257 is no multiple of 8)"}},
      {"a vocabulary of single elements in fp32 is one of vectors",
       [](ModelConfig& c, ForwardShape& s) { c.vocab_size = 50260, s.type = at::kFloat; },
       {"attention (the type is not bfloat16, so LibTorch's kernel)",
        "feed-forward products (the type is not bfloat16)",
        "key norm (the layer's width 3072 is above 2048)"}},
      {"fp32 with a window",
       [](ModelConfig& c, ForwardShape& s) { c.window = 128, s.type = at::kFloat; },
       {"attention (the type is not bfloat16, so blocks with masks in memory)",
        "feed-forward products (the type is not bfloat16)",
        "key norm (the layer's width 3072 is above 2048)"}},
      {"a width above 4,096",
       [](ModelConfig& c, ForwardShape&) { c.width = 5120, c.heads = 40; },
       {"norms (width 5120 is above 4096)", "key norm (the layer's width 20480 is above 4096)"}},
      {"a layer above 4,096 behind a model that is not",
       [](ModelConfig& c, ForwardShape&) { c.width = 1536, c.heads = 12; },
       {"key norm (the layer's width 6144 is above 4096)"}},
      {"an odd width",
       [](ModelConfig& c, ForwardShape&) { c.width = 780; },
       {"attention (head width 65 is no multiple of 8, so LibTorch's kernel)",
        "feed-forward products (width 780 is no multiple of 8)", "norms (width 780 is no multiple of 8)",
        "fast steps (width 780 is no multiple of 8)"}},
      {"heads above 128",
       [](ModelConfig& c, ForwardShape&) { c.heads = 4, c.window = 256; },
       {"attention (head width 192 is above 128, so FlashAttention)"}},
      {"heads above 256",
       [](ModelConfig& c, ForwardShape&) { c.heads = 2, c.window = 256; },
       {"attention (head width 384 is above 128, so blocks with masks in memory)"}},
      {"a context of no multiple of 128",
       [](ModelConfig&, ForwardShape& s) { s.positions = 1000; },
       {"attention (queries 1000 are no multiple of 128, so LibTorch's kernel)",
        "feed-forward products (B T 16000 is no multiple of 1024)"}},
      {"without gradient the rest of the products is computed apart",
       [](ModelConfig&, ForwardShape& s) { s.positions = 1152, s.rows = 5, s.gradient = false; },
       {}},
      {"few tokens",
       [](ModelConfig&, ForwardShape& s) { s.rows = 2; },
       {"feed-forward products (B T 2048 is below 4096)"}},
      {"GELU",
       [](ModelConfig& c, ForwardShape&) { c.feed_forward = "gelu"; },
       {"feed-forward products (the activation is not the squared ReLU)"}},
      {"SwiGLU",
       [](ModelConfig& c, ForwardShape&) { c.feed_forward = "swiglu"; },
       {"feed-forward products (the activation is not the squared ReLU)"}},
      {"biases",
       [](ModelConfig& c, ForwardShape&) { c.projection_biases = true; },
       {"feed-forward products (the first product has a bias)"}},
      {"masks of documents",
       [](ModelConfig& c, ForwardShape&) { c.document_mask = true; },
       {"attention (model.document_mask: windows in which a document begins have a mask in memory)"}},
      {"scalar step sizes",
       [](ModelConfig& c, ForwardShape&) { c.fast_weight.step_size = "scalar"; },
       {"fast steps (the step size is one number for all rows)"}},
      {"a build without cuDNN",
       [](ModelConfig& c, ForwardShape& s) { s.cudnn = false, c.window = 128; },
       {"attention (this build has no cuDNN, so FlashAttention)",
        "feed-forward products (this build has no cuDNN)"}},
      {"8-bit logits that are none",
       [](ModelConfig&, ForwardShape& s) { s.multiplies_float8 = false; },
       {"8-bit inner logits (no 8-bit products of this GPU, type, vocabulary and width)"}},
      {"8-bit logits", [](ModelConfig&, ForwardShape& s) { s.multiplies_float8 = true; }, {}},
      {"ranks that share a sequence by heads attend over all of it",
       [](ModelConfig&, ForwardShape& s) { s.positions = 64, s.rows = 64, s.queries = 1024; },
       {}},
  };
  for (const Row& row : rows) {
    ModelConfig config = large();
    ForwardShape shape = on_gpu();
    row.change(config, shape);
    std::vector<std::string> said;
    for (const FusedPart& part : fused_parts(config, shape))
      if (!part.why_not.empty()) said.push_back(part.name + " (" + part.why_not + ")");
    EXPECT_EQ(said, std::vector<std::string>(row.said.begin(), row.said.end())) << row.name;
  }
}

TEST(FusedParts, PartsThatAModelDoesNotHaveAreNotNamed) {
  ModelConfig config = large();
  config.fast_weight.update = "absent";
  EXPECT_EQ(line(config, on_gpu()),
            "GPU kernels: all fused (attention, feed-forward products, norms, vocabulary rows)");
  config.layers = 0;
  config.vocab_size = 50257;
  EXPECT_EQ(
      line(config, on_gpu()),
      "GPU kernels: fused norms; not fused, slower: vocabulary rows (vocabulary 50257 is no multiple of 8)");
}

}  // namespace
}  // namespace fwl
