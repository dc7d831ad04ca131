// The body: embedding and pre-norm transformer blocks. Knows nothing of fast weights.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/model/attention.h"
#include "core/model/config.h"
#include "core/model/parameters.h"

namespace fwl {

// Weights in the compute dtype: float parameters are cast once per forward (differentiably).
class WeightView {
 public:
  WeightView(const Parameters& parameters, at::ScalarType compute)
      : parameters_(parameters), compute_(compute) {}
  Tensor operator()(const std::string& name) const { return parameters_[name].to(compute_); }
  // The parameter itself, or an undefined tensor when the model has none of this name.
  Tensor optional(const std::string& name) const { return parameters_.has(name) ? (*this)(name) : Tensor(); }
  at::ScalarType compute() const { return compute_; }

 private:
  const Parameters& parameters_;
  at::ScalarType compute_;
};

// What decoding keeps of the tokens read so far.
struct BodyMemory {
  int64_t position = 0;                 // of the next token
  std::vector<AttentionMemory> layers;  // one per block; empty: nothing read yet
};

// Declares the body's parameters with GPT-2's initialisation (normal 0.02; projections into the residual
// stream divided by sqrt(2 layers)).
void declare_body(const ModelConfig& config, at::Generator& generator, Parameters& parameters);

// Hidden states [B, T, d] for token ids [B, T] at positions 0..T-1. Differentiable.
Tensor body_forward(const ModelConfig& config, const WeightView& weights, const Tensor& token_bt);
// The same for tokens that follow those in `memory`, which is extended. Gradients do not flow into the
// memory.
Tensor body_forward(const ModelConfig& config, const WeightView& weights, const Tensor& token_bt,
                    BodyMemory& memory);

}  // namespace fwl
