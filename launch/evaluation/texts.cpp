#include "launch/evaluation/texts.h"

#include <algorithm>

#include "core/base/error.h"

namespace fwl {
namespace {

// The split that the option names, or `name` beside the data, where that holds text.
std::optional<Split> open_optional(const std::string& option, const std::string& path, const Split& data,
                                   const char* name, const TokenizerIdentity& tokenizer,
                                   const std::string& model) {
  if (path.empty() && !has_text_beside(data, name)) return {};
  Split split = path.empty() ? open_beside(data, name) : open_split(option, path);
  require_tokenizer(option, split, tokenizer, model);
  require_text(option, split);
  return split;
}

std::string place_of(const Split& split) {
  return cat("'", split.path(), "/", split.name(), "'");
}

// What was chosen or learned on the very text that is scored makes its numbers better than they are.
std::vector<std::string> notices_of(const ComparisonOptions& options, const LoadedModel& model,
                                    const EvaluationTexts& texts) {
  std::vector<std::string> notices;
  if (was_trained_on(model.config, model.info, texts.data))
    notices.push_back(
        cat("--data ", place_of(texts.data),
            " is text that this run was trained on: it looks better than it is. Score a held-out "
            "split."));
  else if (!options.train_data.empty() && texts.train && same_text(*texts.train, texts.data))
    notices.push_back(
        cat("--train-data and --data are the same text, ", place_of(texts.data),
            ": statistics of the text that is scored make it look better than it is. Give the training "
            "split."));
  if (options.tune_data.empty() || !texts.tune) return notices;
  if (same_text(*texts.tune, texts.data))
    notices.push_back(
        cat("--tune and --data are both '", options.data,
            "': what is tuned on the split that is scored looks better than it is. Tune on another "
            "split."));
  if (was_trained_on(model.config, model.info, *texts.tune))
    notices.push_back(
        cat("--tune ", place_of(*texts.tune),
            " is text that this run was trained on: what suits it may not suit other text. Tune on a "
            "validation split."));
  return notices;
}

}  // namespace

EvaluationTexts open_texts(const ComparisonOptions& options, const LoadedModel& model) {
  const TokenizerIdentity tokenizer = identity_of(*model.tokenizer);
  const std::string& name = options.model.checkpoint;
  Split data = open_split("--data", options.data);
  require_tokenizer("--data", data, tokenizer, name);
  require_text("--data", data);
  std::optional<Split> train =
      open_optional("--train-data", options.train_data, data, "train", tokenizer, name);
  std::optional<Split> tune = open_optional("--tune", options.tune_data, data, "valid", tokenizer, name);
  EvaluationTexts texts{std::move(data), std::move(train), std::move(tune), {}};
  texts.notices = notices_of(options, model, texts);
  return texts;
}

void require_texts_of(EvalMode mode, const ComparisonOptions& options, const EvaluationTexts& texts) {
  const std::string beside = texts.data.path();
  if (mode == EvalMode::kFastUntrained)
    require<ConfigError>(options.untrained_step_size || texts.tune,
                         "--modes fast-untrained searches its step size on a validation split, and '", beside,
                         "/valid' is none with text. Give --tune DIR/SPLIT, or --untrained-step-size.");
  if (!traits_of(mode).adapts) return;
  // --tune searches the rule too: sgd alone where there is no training text.
  const std::string rule = options.dynamic_rule.value_or(options.tune_data.empty() ? "rms" : "sgd");
  const bool reads_statistics = rule == "rms";
  require<ConfigError>(!reads_statistics || texts.train, "--modes ", name_of(mode),
                       ": the rms rule divides by gradient statistics of training text, and '", beside,
                       "/train' is no split with text. Give --train-data DIR/SPLIT, or --dynamic-rule sgd.");
  require<ConfigError>(
      options.dynamic_learning_rate || texts.tune, "--modes ", name_of(mode),
      ": its learning rate is chosen on a validation split (one that suits another model may diverge), and '",
      beside, "/valid' is none with text. Give --tune DIR/SPLIT, or --dynamic-learning-rate.");
}

std::string rules_left_out(const ComparisonOptions& options, const std::vector<EvalMode>& modes,
                           const EvaluationTexts& texts) {
  const bool adapts =
      std::any_of(modes.begin(), modes.end(), [](EvalMode mode) { return traits_of(mode).adapts; });
  if (!adapts || options.dynamic_rule || options.tune_data.empty() || texts.train) return "";
  return cat(
      "the rms rule is left out of the search: it divides by gradient statistics of training text, and '",
      texts.data.path(), "/train' is no split with text. Give --train-data DIR/SPLIT to have it tried.");
}

}  // namespace fwl
