// The splits that an evaluation reads, opened and checked before the first second of work: what is scored,
// what rates are chosen on, what gradient statistics and token counts come from.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "launch/evaluation/comparison.h"
#include "launch/named_split.h"

namespace fwl {

struct EvaluationTexts {
  Split data;
  std::optional<Split> train, tune;  // nothing: neither named nor beside the data
  std::vector<std::string> notices;  // on what makes the numbers look better than they are
};

// `model`: opened, its weights may be missing. Throws ConfigError, DataError: see open_split,
// require_tokenizer, require_text.
EvaluationTexts open_texts(const ComparisonOptions& options, const LoadedModel& model);

// Throws ConfigError that says which option to give when a mode needs a split that is not there.
void require_texts_of(EvalMode mode, const ComparisonOptions& options, const EvaluationTexts& texts);

// What a search does without, in a sentence: the rms rule, where --tune has no training text. Empty: nothing.
std::string rules_left_out(const ComparisonOptions& options, const std::vector<EvalMode>& modes,
                           const EvaluationTexts& texts);

}  // namespace fwl
