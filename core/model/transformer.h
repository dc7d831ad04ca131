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
  Tensor operator()(const std::string& name) const {
    const Tensor& leaf = parameters_.leaf(name);
    return leaf.scalar_type() == compute_ ? leaf : cast(name);
  }
  // The parameter itself, or an undefined tensor when the model has none of this name.
  Tensor optional(const std::string& name) const { return parameters_.has(name) ? (*this)(name) : Tensor(); }
  // Rows of a table of the model, [..., d], for indices [...]. Differentiable.
  Tensor rows(const std::string& name, const Tensor& index) const;
  at::ScalarType compute() const { return compute_; }

 private:
  const Tensor& cast(const std::string& name) const {
    Tensor& cast = cast_[name];
    if (!cast.defined()) cast = parameters_[name].to(compute_);
    return cast;
  }

  const Parameters& parameters_;
  at::ScalarType compute_;
  mutable std::map<std::string, Tensor> cast_;  // so that a weight used twice is cast once
};

// Declares the body's parameters with GPT-2's initialisation (normal 0.02; projections into the residual
// stream divided by sqrt(2 layers)).
void declare_body(const ModelConfig& config, at::Generator& generator, Parameters& parameters);

// Hidden states [B, T, d] for token ids [B, T] at positions view.first_position() and on. Differentiable; no
// gradient flows into what the view remembers. Collective over the view's ranks, if it has any.
// With config.document_mask, attention stays within the documents that document_start_bt (bool [B, T], or
// undefined) begins; throws ConfigError where one begins inside a sequence that is not whole here.
Tensor body_forward(const ModelConfig& config, const WeightView& weights, const Tensor& token_bt,
                    const Tensor& document_start_bt, SequenceView& view);

}  // namespace fwl
