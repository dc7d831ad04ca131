// Every token of a text with its log-probability at the slow and at the fast weights, in bounded memory.
#pragma once

#include <deque>
#include <functional>
#include <string>
#include <vector>

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

// The tokens of a text, piece by piece, as `fwl tokenize` cuts it.
class TextTokens {
 public:
  // Both outlive the object.
  TextTokens(ByteSource& bytes, const Tokenizer& tokenizer) : bytes_(bytes), tokenizer_(tokenizer) {}
  // Up to `count` tokens; fewer at the end alone.
  std::vector<int64_t> next(int64_t count);
  int64_t bytes_read() const { return bytes_read_; }
  // Reads the text to its end and returns its number of tokens; where there are more than `most`, none is
  // left to read. Memory does not grow beyond that.
  int64_t count_up_to(int64_t most);
  // Whether no token is left. Reads as far as the next one.
  bool is_empty();

 private:
  bool encode_piece();
  void fill();

  ByteSource& bytes_;
  const Tokenizer& tokenizer_;
  std::string held_;  // read, not encoded
  std::deque<int32_t> ready_;
  int64_t bytes_read_ = 0;
  bool ended_ = false;
};

// Throws ConfigError when the text goes on beyond the positions that the model has learned. Needs no weights.
void check_length(const ModelConfig& model, TextTokens& text, const ScoreOptions& options);

// Reads `text` to its end and visits every token in order, once, scored before any update that uses it. The
// document-start token stands before the first and is not scored. Without carry, full attention and fast
// weights reach back to the window's start.
ScoreTotals score_text(const LanguageModel& model, const Tokenizer& tokenizer, TextTokens& text,
                       const ScoreOptions& options, const std::function<void(const ScoredToken&)>& visit);

}  // namespace fwl
