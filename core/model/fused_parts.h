// Which parts of a model run on the fused GPU kernels, and why the others do not: one line for the start of a
// run, from the functions that the dispatch asks (core/kernels/fused_shapes.h). On a CPU there is nothing to
// say.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/kernels/fused_attention.h"
#include "core/model/language_model.h"

namespace fwl {

// What a forward computes at once.
struct ForwardShape {
  at::Device device = at::kCPU;
  at::ScalarType type = at::kFloat;
  int64_t rows = 1, positions = 0;  // sequences, and this rank's tokens of each
  int64_t queries = 0;              // positions that attend together; 0: `positions`
  bool gradient = false;
  bool cudnn = has_cudnn();
  std::optional<bool> multiplies_float8{};  // of 8-bit inner logits, where they are asked for
};
// Of passes without gradient.
ForwardShape forward_shape(const LanguageModel& model, const InnerApproximation& inner, int64_t rows,
                           int64_t positions);

struct FusedPart {
  std::string name;
  std::string why_not;  // empty: it is fused
};
// Parts that the model has, in the order of its forward; none on a CPU. `config` has its vocabulary.
std::vector<FusedPart> fused_parts(const ModelConfig& config, const ForwardShape& shape);

// "GPU kernels: fused are ...; not fused: ... (why), ...". Empty for no parts.
std::string describe(const std::vector<FusedPart>& parts);

}  // namespace fwl
