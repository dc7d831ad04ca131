// Continues texts with a trained model, several side by side. Each text is a function of its prompt, the
// options and the model alone (on the CPU bit for bit: core/model/decoder.h).
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/model/decoder.h"
#include "core/model/sampling.h"
#include "data/tokenizer.h"

namespace fwl {

// What the fast weights learn from; kOff: static weights.
enum class Adapt { kPrompt, kAll, kOff };
Adapt parse_adapt(const std::string& name);  // prompt, all, off; throws ConfigError
const char* name_of(Adapt adapt);

struct GenerationOptions {
  int64_t max_tokens = 200;
  SamplingOptions sampling;
  uint64_t seed = 1;
  int64_t samples =
      1;  // prompts in a row that are the same: each after the first draws from a seed of its own
  std::vector<std::string> stops;
  Adapt adapt = Adapt::kPrompt;
};

// A text that was read up to its last token, which is known but not read yet.
struct ReadingState {
  StreamState state;
  int64_t last_token = 0;
  bool has_fast_weights = false;
};

// kContext: the positions that the model has learned end. kNotFinite: the next token's logits are no numbers.
enum class Ending { kMaxTokens, kStopString, kDocumentEnd, kContext, kNotFinite };
const char* name_of(Ending ending);

struct Continuation {
  std::vector<int32_t> tokens;  // all that were drawn, those of a stop string too
  std::string text;             // up to the stop string
  Ending ending = Ending::kMaxTokens;
};

struct GenerationCost {
  int64_t tokens_read = 0, tokens_drawn = 0;
  double reading_s = 0, drawing_s = 0;
  int64_t memory_bytes = 0;  // of the decoder's memories and states
};

// Throws ConfigError when prompts of so many tokens, each behind `before` tokens of a saved state (the last
// one of which is read again; 0: behind the document start), do not fit a model's learned positions. Needs no
// weights.
void check_prompts(const ModelConfig& model, const std::vector<size_t>& prompt_tokens, int64_t before);

// Throws ConfigError when a model without fast weights is to adapt.
void check_adapt(const ModelConfig& model, Adapt adapt);
// Throws ConfigError when a state that holds no fast weights is to go on with them.
enum class FastState { kAbsent, kHeld };
void check_state(FastState state, Adapt adapt);

class Generator {
 public:
  // Model and tokenizer outlive it. Throws ConfigError for an option that the model does not have.
  Generator(const LanguageModel& model, const Tokenizer& tokenizer, GenerationOptions options);

  // The state after `tokens`, from the document's start or from where `before` ended.
  ReadingState read(const std::optional<ReadingState>& before, const std::vector<int32_t>& tokens);

  // Shows the next piece of a prompt's text (whole UTF-8 characters); `ended`: nothing more will come.
  using Listener = std::function<void(size_t prompt, const std::string& piece, bool ended)>;
  // Continues each prompt, from the document's start or from where `before` ended.
  std::vector<Continuation> run(const std::optional<ReadingState>& before,
                                const std::vector<std::vector<int32_t>>& prompts, const Listener& listener);
  const GenerationCost& cost() const { return cost_; }

 private:
  struct Text;
  enum class Next { kRead, kEnd };
  std::vector<DecoderInput> begin(Decoder& decoder, const std::optional<ReadingState>& before,
                                  const std::vector<int32_t>& tokens) const;
  uint64_t seed_of(size_t text) const;
  Next take_token(Text& text, const Tensor& logits_v) const;

  const LanguageModel& model_;
  const Tokenizer& tokenizer_;
  GenerationOptions options_;
  GenerationCost cost_;
};

}  // namespace fwl
