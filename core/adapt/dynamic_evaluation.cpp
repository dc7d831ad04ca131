#include "core/adapt/dynamic_evaluation.h"

#include <algorithm>

#include "core/base/error.h"
#include "core/base/log.h"

namespace fwl {
namespace {

TokenBatch narrow(const TokenBatch& batch, int64_t dim, int64_t first, int64_t count) {
  const auto part = [&](const Tensor& t) { return t.defined() ? t.narrow(dim, first, count) : t; };
  return {part(batch.input_bt), part(batch.label_bt), part(batch.weight_bt), part(batch.document_start_bt)};
}

}  // namespace

void DynamicEvaluationConfig::visit_fields(FieldList& list) {
  list.add_choice("rule", rule, {"sgd", "rms"}, "update rule");
  list.add("learning_rate", learning_rate, "learning rate", at_least(0));
  list.add("decay", decay, "decay towards the trained weights", between(0, 1));
  list.add("epsilon", epsilon, "added to the root of the mean squares (rms)", at_least(1e-30));
  list.add("segment", segment, "tokens between updates", at_least(1));
  list.add_choice("reset", reset, {"document", "stream"},
                  "go back to the trained weights at each document, or never");
  list.add("statistics_batches", statistics_batches, "training batches for the mean squares (rms)",
           at_least(1));
}

GradientStatistics::GradientStatistics(LanguageModel& model, Pass pass, int64_t rows)
    : model_(model),
      pass_(pass),
      rows_(rows),
      sum_of_squares_(at::zeros_like(model.parameters().gradients())) {}

void GradientStatistics::add(const TokenBatch& batch) {
  model_.parameters().zero_gradients();
  const double tokens = batch.weight_bt.sum().item<double>();
  const int64_t total = batch.input_bt.size(0);
  for (int64_t first = 0; first < total; first += rows_) {
    WholeSequence whole;
    const TokenBatch part = narrow(batch, 0, first, std::min(rows_, total - first));
    model_.parameters().backward(model_.segment_loss(part, whole, pass_).total.div(std::max(tokens, 1.0)));
  }
  sum_of_squares_.add_(model_.parameters().gradients().square());
  model_.parameters().zero_gradients();
  ++batches_;
}

Tensor GradientStatistics::mean_square() const {
  require<InternalError>(batches_ > 0, "gradient statistics of no batch");
  return sum_of_squares_ / static_cast<double>(batches_);
}

DynamicEvaluator::DynamicEvaluator(LanguageModel& model, const DynamicEvaluationConfig& config,
                                   const Tensor& mean_square, Pass pass)
    : model_(model), config_(config), pass_(pass), trained_(model.parameters().values().clone()) {
  if (config.rule == "sgd") {
    rate_ = at::full_like(trained_, config.learning_rate);
    pull_ = at::full_like(trained_, config.decay);
    return;
  }
  require<ConfigError>(mean_square.defined(),
                       "the rms rule of dynamic evaluation needs gradient statistics of training data. "
                       "Give --train-data, or choose --dynamic-rule sgd.");
  const Tensor root = mean_square.sqrt();
  rate_ = config.learning_rate / (root + config.epsilon);
  // R = sqrt(MS) / mean(sqrt(MS)), clipped so that one step never overshoots the trained weights.
  pull_ = (root / root.mean() * config.decay).clamp_max(1.0);
}

// After an error of the device these operations fail too: then the first error is what is to be told.
DynamicEvaluator::~DynamicEvaluator() {
  try {
    reset();
    model_.parameters().zero_gradients();
  } catch (const std::exception& error) {
    log_warn(cat("the weights are left as dynamic evaluation has changed them (", error.what(),
                 "). Load the model again."));
  }
}

void DynamicEvaluator::reset() {
  const at::NoGradGuard no_grad;
  model_.parameters().values().copy_(trained_);
}

Tensor DynamicEvaluator::score(const TokenBatch& batch) {
  ContinuedSequence alone;
  return score(batch, alone);
}

Tensor DynamicEvaluator::score(const TokenBatch& batch, SequenceView& view) {
  require<InternalError>(batch.input_bt.size(0) == 1, "dynamic evaluation reads one sequence at a time");
  const int64_t length = batch.input_bt.size(1);
  Tensor nll_bt = at::empty({1, length}, batch.weight_bt.options());
  const Tensor weight_bt = batch.weight_bt.to(at::kCPU);  // read once: no segment waits for its sum
  for (int64_t first = 0; first < length; first += config_.segment) {
    const int64_t count = std::min(config_.segment, length - first);
    const TokenBatch segment = narrow(batch, 1, first, count);
    const double tokens = weight_bt.narrow(1, first, count).sum().item<double>();
    const OuterLoss loss = model_.segment_loss(segment, view, pass_);
    nll_bt.narrow(1, first, count).copy_(loss.nll_n.view({1, count}));
    if (tokens == 0) continue;
    model_.parameters().backward(loss.total.div(tokens));
    update();
  }
  return nll_bt;
}

// W <- W - rate g + pull (W0 - W).
void DynamicEvaluator::update() {
  const at::NoGradGuard no_grad;
  Tensor& values = model_.parameters().values();
  values.addcmul_(rate_, model_.parameters().gradients(), -1);
  if (config_.decay > 0) values.addcmul_(pull_, trained_ - values);
  model_.parameters().zero_gradients();
}

}  // namespace fwl
