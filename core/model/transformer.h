// The body: embedding and pre-norm transformer blocks. Knows nothing of fast weights.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/model/config.h"
#include "core/model/parameters.h"
#include "core/model/sequence_view.h"

namespace fwl {

// Weights in the dtype of a forward's products, differentiable: the parameters' leaves in their compute dtype
// (refreshed here), or the values in another one.
class WeightView {
 public:
  WeightView(const Parameters& parameters, at::ScalarType compute)
      : parameters_(parameters), compute_(compute) {
    if (parameters.compute_type() == compute) parameters.refresh_copies();
  }
  // Undefined for kNoParameter.
  Tensor operator()(ParameterIndex index) const {
    if (index == kNoParameter) return {};
    const Tensor& leaf = parameters_.at(index).leaf;
    return leaf.scalar_type() == compute_ ? leaf : cast(index);
  }
  // Rows of a table of the model, [..., d], for indices [...]. Differentiable.
  Tensor rows(ParameterIndex table, const Tensor& index) const;
  at::ScalarType compute() const { return compute_; }

 private:
  const Tensor& cast(ParameterIndex index) const {
    Tensor& cast = cast_[index];
    if (!cast.defined()) cast = parameters_.value(index).to(compute_);
    return cast;
  }

  const Parameters& parameters_;
  at::ScalarType compute_;
  mutable std::map<ParameterIndex, Tensor> cast_;  // so that a weight used twice is cast once
};

// Where the body's weights are among the parameters; kNoParameter: the body has none such.
struct NormIndex {
  ParameterIndex scale, bias;
};
struct ProjectionIndex {
  ParameterIndex weight, bias;
};
struct BlockIndex {
  NormIndex norm1, norm2;
  ProjectionIndex qkv, attention_out, up, down;
};
struct BodyIndex {
  ParameterIndex embedding, positions;
  std::vector<BlockIndex> blocks;
};
BodyIndex index_body(const ModelConfig& config, const Parameters& parameters);

// Declares the body's parameters with GPT-2's initialisation (normal 0.02; projections into the residual
// stream divided by sqrt(2 layers)).
void declare_body(const ModelConfig& config, at::Generator& generator, Parameters& parameters);

// Hidden states [B, T, d] for token ids [B, T] at positions view.first_position() and on. Differentiable; no
// gradient flows into what the view remembers. Collective over the view's ranks, if it has any.
// With config.document_mask, attention stays within the documents that document_start_bt (bool [B, T], or
// undefined) begins; throws ConfigError where one begins inside a sequence that is not whole here.
Tensor body_forward(const ModelConfig& config, const BodyIndex& index, const WeightView& weights,
                    const Tensor& token_bt, const Tensor& document_start_bt, SequenceView& view);

}  // namespace fwl
