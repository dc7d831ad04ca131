// The language model: transformer body, Fast Weight Layer, unembedding; parameters, losses and decoding.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/fast_weight/layer.h"
#include "core/model/config.h"
#include "core/model/parameters.h"
#include "core/model/transformer.h"

namespace fwl {

// A batch on the model's device. With fewer labels than inputs they are those of the last inputs: the inputs
// before are read by the body alone.
struct TokenBatch {
  Tensor input_bt;           // int64
  Tensor label_bt;           // int64
  Tensor weight_bt;          // loss weights in the accumulation type; 0: not scored and not learned from
  Tensor document_start_bt;  // bool, of the inputs; or undefined
};

// Which weights predict: the slow ones alone, or the fast ones.
enum class Pass { kSlow, kFast };

struct TrainingLoss {
  Tensor objective;  // what to differentiate: sum of weighted losses times `scale`
  Tensor main_sum;   // sum of weight * nll of the pass that is trained (fast, or slow for the control)
  Tensor slow_sum;   // the same of the slow pass
};

class LanguageModel {
 public:
  // Initialises on the CPU from `seed` (the same weights on every device), then moves to `device`. Parameters
  // are kept in float32 (float64 for fp64); `dtype` is what the matrix products run in. config.vocab_size
  // must be set.
  LanguageModel(const ModelConfig& config, at::Device device, at::ScalarType dtype, uint64_t seed);

  const ModelConfig& config() const { return config_; }
  Parameters& parameters() { return parameters_; }
  const Parameters& parameters() const { return parameters_; }
  at::Device device() const { return device_; }
  at::ScalarType accumulation_type() const;
  at::ScalarType compute_type() const { return compute_; }
  bool has_fast_weights() const { return config_.fast_weight.learns(); }

  // Every forward goes over a SequenceView: what this rank computes of the sequences, and what came before
  // them. Without one, the batch holds whole sequences. Collective over the view's ranks, if it has any.
  //
  // Loss of a batch. `scale` is 1 / (loss-weighted tokens of the GLOBAL batch).
  TrainingLoss training_loss(const TokenBatch& batch, double scale, SequenceView& view) const;
  TrainingLoss training_loss(const TokenBatch& batch, double scale) const;
  // Negative log-likelihood of every label, [B, T]; without gradient. Throws ConfigError for kFast on a
  // control.
  Tensor token_losses(const TokenBatch& batch, Pass pass, SequenceView& view) const;
  Tensor token_losses(const TokenBatch& batch, Pass pass) const;
  // Negative log-likelihoods of both passes from one forward, [B, T] each; without gradient. A control has no
  // fast ones (undefined).
  struct PassLosses {
    Tensor slow_bt, fast_bt;
  };
  PassLosses pass_losses(const TokenBatch& batch, SequenceView& view) const;
  // Loss of a segment: sum of weight * nll (differentiable) and the labels' nll. For dynamic evaluation.
  OuterLoss segment_loss(const TokenBatch& batch, SequenceView& view, Pass pass = Pass::kSlow) const;
  // Logits of a batch, [B, T, v], in the accumulation type; for tests on small models. The slow pass wants no
  // labels.
  Tensor logits(const TokenBatch& batch, Pass pass, SequenceView& view) const;
  Tensor logits(const TokenBatch& batch, Pass pass) const;

  // How passes without gradient make their inner gradients; at first exactly. Passes with gradient through
  // the layer throw ConfigError where they are approximated.
  void set_inner_approximation(const InnerApproximation& approximation) {
    options_.inner = approximation;
    approximated_.reset();
  }
  const InnerApproximation& inner_approximation() const { return options_.inner; }
  // What a threshold did since the last call, over all batch forwards; waits for the device.
  struct InnerUse {
    double gradients = 0, kept = 0, rest = 0;  // gradients of tokens; sums over them
  };
  InnerUse take_inner_use();

  // Step sizes as the layer uses them: mean over rows, by layer ("dense1", "dense2", "norm"); empty for a
  // control.
  std::vector<std::pair<std::string, double>> mean_step_sizes() const;
  // One a row of an inner step (from 0), or one alone ([]); undefined where there is none.
  Tensor step_size(const std::string& layer, int64_t step = 0) const;
  std::vector<std::pair<std::string, double>> decays() const;

  // The layer's weights as its functions take them, for those who run it themselves (core/model/decoder.h).
  FastWeightWeights layer_weights(const WeightView& view) const;
  const FastWeightOptions& layer_options() const { return options_; }
  const BodyIndex& body() const { return body_; }

 private:
  // Weights of one forward, each looked up once.
  struct ForwardWeights {
    WeightView view;
    FastWeightWeights layer;
  };
  ForwardWeights forward_weights() const;

  // Fast tensors: the dense layers and the norm.
  static constexpr size_t kFastTensors = 3;
  using OfFastTensors = std::array<Tensor, kFastTensors>;
  // Where the rates of an inner step are among the parameters, by fast tensor; kNoParameter: it has none.
  struct RateIndex {
    std::array<ParameterIndex, kFastTensors> step_size;
    ParameterIndex decay, norm_decay;
  };
  void index_layer();
  Tensor step_size(size_t tensor, size_t step) const;
  OfFastTensors log_decays(size_t step) const;
  template <typename Visit>
  void for_each_rate(Visit visit) const;
  Unembedding inner_unembedding(const Unembedding& exact) const;
  Tensor body_of(const ForwardWeights& weights, const TokenBatch& batch, SequenceView& view) const;
  Tensor slow_forward(const ForwardWeights& weights, const TokenBatch& batch, SequenceView& view) const;
  FastWeightResult fast_forward(const ForwardWeights& weights, const TokenBatch& batch,
                                SequenceView& view) const;
  Tensor normed_of(const ForwardWeights& weights, const TokenBatch& batch, Pass pass,
                   SequenceView& view) const;

  ModelConfig config_;
  at::Device device_;
  at::ScalarType compute_;
  FastWeightOptions options_;
  Parameters parameters_;
  BodyIndex body_;
  std::vector<std::pair<Tensor FastWeightWeights::*, ParameterIndex>> layer_;  // its weights but the rates
  ParameterIndex unembedding_ = kNoParameter, unembedding_bias_ = kNoParameter;
  std::vector<RateIndex> rates_;  // of the inner steps; one for a model without
  mutable Tensor inner_use_;      // of forwards since take_inner_use(); undefined: none
  // What the inner approximation takes from the unembedding, for as long as that does not change.
  struct Approximated {
    Parameters::Revision of;
    Unembedding unembedding;
  };
  mutable std::optional<Approximated> approximated_;
};

}  // namespace fwl
