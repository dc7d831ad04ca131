// Dynamic evaluation (Krause, Kahembwe, Murray, Renals 2018, 2019): the method that the Fast Weight Layer
// replaces. Scores a segment, then takes a gradient step on ALL weights with that segment's loss. Every token
// is scored before any update uses it. With Pass::kFast it goes on top of the layer: the
// fast weights score, and the slow ones follow the gradient of that score.
#pragma once

#include <string>

#include "core/base/config.h"
#include "core/model/language_model.h"

namespace fwl {

struct DynamicEvaluationConfig {
  std::string rule = "rms";
  double learning_rate = 3e-4;
  double decay = 0.0;
  double epsilon = 1e-3;  // of the order of a typical root mean square: a smaller one lets rare weights jump
  int64_t segment = 128;
  std::string reset = "document";
  int64_t statistics_batches = 16;

  void visit_fields(FieldList& list);
};

// Mean over batches of squared gradients of the mean token loss, one per parameter (flat). For the RMS rule.
// Call add() once per training batch of the size that the trained weights saw.
class GradientStatistics {
 public:
  // `pass`: whose loss. `rows`: sequences of a batch that are computed at once.
  explicit GradientStatistics(LanguageModel& model, Pass pass = Pass::kSlow, int64_t rows = 8);
  void add(const TokenBatch& batch);
  int64_t batches() const { return batches_; }
  Tensor mean_square() const;

 private:
  LanguageModel& model_;
  Pass pass_;
  int64_t rows_;
  Tensor sum_of_squares_;
  int64_t batches_ = 0;
};

// Owns the trained weights' copy; changes the model's weights while it reads, and restores them at the end of
// life.
class DynamicEvaluator {
 public:
  // `mean_square` is used by the rms rule only. Throws ConfigError for settings that cannot work.
  DynamicEvaluator(LanguageModel& model, const DynamicEvaluationConfig& config, const Tensor& mean_square,
                   Pass pass = Pass::kSlow);
  ~DynamicEvaluator();
  DynamicEvaluator(const DynamicEvaluator&) = delete;
  DynamicEvaluator& operator=(const DynamicEvaluator&) = delete;

  // Scores one sequence [1, T] that goes on from `view`, adapting after every segment. Returns the tokens'
  // nll [1, T]. `batch.weight_bt` marks the tokens that are scored and learned from.
  Tensor score(const TokenBatch& batch, SequenceView& view);
  // One that stands alone: attention reaches back to its start.
  Tensor score(const TokenBatch& batch);
  // Goes back to the trained weights.
  void reset();

 private:
  void update();

  LanguageModel& model_;
  DynamicEvaluationConfig config_;
  Pass pass_;
  Tensor trained_;  // flat copy of the weights
  Tensor rate_;     // per-weight learning rate: lr / (sqrt(MS) + eps), or lr
  Tensor pull_;     // per-weight decay towards the trained weights
};

}  // namespace fwl
