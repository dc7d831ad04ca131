// Every token of a text with its log-probability at the slow and at the fast weights, in bounded memory.
#pragma once

#include <functional>
#include <string>

#include "core/model/language_model.h"
#include "data/byte_source.h"
#include "data/tokenizer.h"

namespace fwl {

struct ScoreOptions {
  int64_t context = 0;  // tokens per window; 0: as trained
  // Fast weights and attention window go on from window to window; else each window starts anew.
  bool carry = false;
};

struct ScoredToken {
  int32_t id = 0;
  std::string bytes;
  double slow = 0, fast = 0;  // log-probability in nats, given all tokens before; fast: 0 for a control
  double gain() const { return fast - slow; }
};

struct ScoreTotals {
  int64_t tokens = 0, bytes = 0;
  double slow = 0, fast = 0;  // sums of log-probabilities
};

// Reads `text` to its end and visits every token in order, once, scored before any update that uses it. The
// document-start token stands before the first and is not scored. Without carry, full attention and fast
// weights reach back to the window's start. Throws DataError for an empty text.
ScoreTotals score_text(const LanguageModel& model, const Tokenizer& tokenizer, ByteSource& text,
                       const ScoreOptions& options, const std::function<void(const ScoredToken&)>& visit);

}  // namespace fwl
