// What a mode needs besides the model: rates and step sizes, found on a validation split where they are not
// given.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "launch/evaluation/comparison.h"
#include "launch/evaluation/texts.h"

namespace fwl {

struct PreparedMode {
  DynamicSetup dynamic;
  std::unique_ptr<LanguageModel> model;  // null: the checkpoint's
  nlohmann::json settings;
  std::string failure;  // why there is nothing to run: every rate that was tried diverges. Empty: run it
};

// How the validation split is read on which a mode's settings are searched; nothing where none is. The
// options' context is known.
std::optional<ReadingOptions> tuning_reading(const ComparisonOptions& options, EvalMode mode);

class ModeSettings {
 public:
  // All arguments outlive the object. The splits that the modes need are there (require_texts_of).
  ModeSettings(const ComparisonOptions& options, const EvaluationTexts& texts, LoadedModel& loaded,
               Communicator& group)
      : options_(options), texts_(texts), loaded_(loaded), group_(group) {}

  // Collective over the group.
  PreparedMode prepare(EvalMode mode, const Carry& carry);

 private:
  enum class Search { kNone, kRate, kAll };
  static Search search_of(const ComparisonOptions& options);
  static ReadingOptions reading_of(const ComparisonOptions& options, Search search);
  friend std::optional<ReadingOptions> tuning_reading(const ComparisonOptions& options, EvalMode mode);
  Search search() const { return search_of(options_); }
  double tuning_loss(LanguageModel& model, EvalMode mode, const DynamicSetup& dynamic, Search search) const;
  Tensor mean_square(const std::string& rule, Pass pass);
  PreparedMode prepare_dynamic(EvalMode mode);
  PreparedMode prepare_untrained();
  // Keeps the best setting that it has measured.
  class Trials;
  void tune_rate(EvalMode mode, const DynamicEvaluationConfig& start, Trials& trials);
  void tune_all(EvalMode mode, const DynamicEvaluationConfig& start, Trials& trials);

  const ComparisonOptions& options_;
  const EvaluationTexts& texts_;
  LoadedModel& loaded_;
  Communicator& group_;
  Carry carry_;            // of the mode that is prepared
  Tensor mean_square_[2];  // of the slow and of the fast pass's loss
};

}  // namespace fwl
