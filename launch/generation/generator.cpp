#include "launch/generation/generator.h"

#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <limits>

#include "core/base/clock.h"
#include "core/base/error.h"
#include "core/base/hash.h"
#include "launch/generation/text_stream.h"
#include "launch/load_model.h"

namespace fwl {
namespace {

Pass pass_of(Adapt adapt) {
  return adapt == Adapt::kOff ? Pass::kSlow : Pass::kFast;
}

}  // namespace

Adapt parse_adapt(const std::string& name) {
  for (const Adapt adapt : {Adapt::kPrompt, Adapt::kAll, Adapt::kOff}) {
    if (name == name_of(adapt)) return adapt;
  }
  throw ConfigError(cat("--adapt ", name, " does not exist. Choose among prompt, all, off."));
}

const char* name_of(Adapt adapt) {
  return adapt == Adapt::kPrompt ? "prompt" : adapt == Adapt::kAll ? "all" : "off";
}

const char* name_of(Ending ending) {
  switch (ending) {
    case Ending::kMaxTokens:
      return "max_tokens";
    case Ending::kStopString:
      return "stop";
    case Ending::kDocumentEnd:
      return "document_end";
    case Ending::kContext:
      return "context";
    case Ending::kNotFinite:
      return "not_finite";
  }
  throw InternalError("unknown ending");
}

// One prompt's text while it grows.
struct Generator::Text {
  size_t prompt;
  int64_t sequence;
  TextStream stream;
  at::Generator draws;
  Continuation result;
  std::string piece;  // to show
};

void check_prompts(const ModelConfig& model, const std::vector<size_t>& prompt_tokens, int64_t before) {
  const std::optional<int64_t> positions = positions_of(model);
  if (!positions) return;
  for (size_t i = 0; i < prompt_tokens.size(); ++i) {
    const int64_t tokens = before + 1 + static_cast<int64_t>(prompt_tokens[i]);
    require<ConfigError>(tokens <= *positions, "prompt ", i + 1, " has ", prompt_tokens[i], " tokens, ",
                         tokens, " with what stands before it, but this model has learned ", *positions,
                         " positions (later ones mean nothing to it). Give a prompt of at most ",
                         std::max<int64_t>(0, *positions - before - 1), " tokens.");
  }
}

void check_adapt(const ModelConfig& model, Adapt adapt) {
  require<ConfigError>(adapt == Adapt::kOff || model.fast_weight.learns(), "--adapt ", name_of(adapt),
                       ": this model has no fast weights (model.fast_weight.update is none or absent: it is "
                       "a static control). Use --adapt off.");
}

void check_state(FastState state, Adapt adapt) {
  require<ConfigError>(state == FastState::kHeld || adapt == Adapt::kOff,
                       "the state was read with --adapt off, so it holds no fast weights. Read the document "
                       "again with --adapt ",
                       name_of(adapt), ", or answer with --adapt off.");
}

Generator::Generator(const LanguageModel& model, const Tokenizer& tokenizer, GenerationOptions options)
    : model_(model), tokenizer_(tokenizer), options_(std::move(options)) {
  check_adapt(model.config(), options_.adapt);
  require<ConfigError>(options_.sampling.top_p > 0, "--top-p must be above 0 (no token would be left).");
}

// A new sequence and what it has to read; the last input predicts.
std::vector<DecoderInput> Generator::begin(Decoder& decoder, const std::optional<ReadingState>& before,
                                           const std::vector<int32_t>& tokens) const {
  if (before.has_value())
    check_state(before->has_fast_weights ? FastState::kHeld : FastState::kAbsent, options_.adapt);
  const int64_t sequence = before.has_value() ? decoder.add_sequence(before->state) : decoder.add_sequence();
  std::vector<DecoderInput> inputs = {
      {sequence, before.has_value() ? before->last_token : tokenizer_.document_start()}};
  inputs.front().document_start = !before.has_value();
  for (const int32_t token : tokens) inputs.push_back({sequence, token});
  inputs.back().predict = true;
  return inputs;
}

ReadingState Generator::read(const std::optional<ReadingState>& before, const std::vector<int32_t>& tokens) {
  const double start = now_s();
  Decoder decoder(model_, pass_of(options_.adapt));
  std::vector<DecoderInput> inputs = begin(decoder, before, tokens);
  const DecoderInput last = inputs.back();
  inputs.pop_back();
  decoder.read(inputs);
  if (!inputs.empty()) decoder.settle(last.sequence, last.token);
  cost_.tokens_read += static_cast<int64_t>(inputs.size());
  cost_.reading_s += now_s() - start;
  cost_.memory_bytes = decoder.memory_bytes();
  return {decoder.state(last.sequence), last.token, options_.adapt != Adapt::kOff};
}

// Draws the next token.
Generator::Next Generator::take_token(Text& text, const Tensor& logits_v) const {
  Continuation& result = text.result;
  const auto end = [&](Ending ending) {
    result.ending = ending;
    return Next::kEnd;
  };
  // A model may have more rows than its tokenizer has tokens (a padded vocabulary): those are never drawn.
  const Tensor candidates_v = logits_v.narrow(0, 0, tokenizer_.vocab_size());
  if (!candidates_v.isfinite().all().item<bool>()) return end(Ending::kNotFinite);
  const int64_t token = sample_token(candidates_v, options_.sampling, text.draws);
  if (token == tokenizer_.document_start()) return end(Ending::kDocumentEnd);
  result.tokens.push_back(static_cast<int32_t>(token));
  text.piece = text.stream.add(tokenizer_.decode({result.tokens.back()}));
  if (text.stream.stopped()) return end(Ending::kStopString);
  if (static_cast<int64_t>(result.tokens.size()) >= options_.max_tokens) return end(Ending::kMaxTokens);
  return Next::kRead;
}

// The first sample's is the seed itself, so that a text does not depend on how many others are drawn.
uint64_t Generator::seed_of(size_t text) const {
  const uint64_t sample = text % static_cast<uint64_t>(options_.samples);
  return sample == 0 ? options_.seed : mix_bits(options_.seed ^ mix_bits(sample));
}

std::vector<Continuation> Generator::run(const std::optional<ReadingState>& before,
                                         const std::vector<std::vector<int32_t>>& prompts,
                                         const Listener& listener) {
  Decoder decoder(model_, pass_of(options_.adapt));
  const int64_t positions = positions_of(model_.config()).value_or(std::numeric_limits<int64_t>::max());
  std::vector<Continuation> results(prompts.size());
  std::vector<Text> texts;
  std::vector<DecoderInput> inputs;
  for (const std::vector<int32_t>& prompt : prompts) {
    const std::vector<DecoderInput> reading = begin(decoder, before, prompt);
    inputs.insert(inputs.end(), reading.begin(), reading.end());
    texts.push_back({texts.size(),
                     reading.front().sequence,
                     TextStream(options_.stops),
                     at::make_generator<at::CPUGeneratorImpl>(seed_of(texts.size())),
                     {},
                     {}});
  }
  if (options_.max_tokens == 0) {
    for (const Text& text : texts) listener(text.prompt, "", true);
    return results;
  }
  const double reading = now_s();
  Tensor logits_pv = decoder.read(inputs);
  cost_.tokens_read += static_cast<int64_t>(inputs.size());
  cost_.reading_s += now_s() - reading;
  cost_.memory_bytes = decoder.memory_bytes();
  const double drawing = now_s();
  while (!texts.empty()) {
    inputs.clear();
    std::vector<Text> alive;
    for (size_t i = 0; i < texts.size(); ++i) {
      Text& text = texts[i];
      text.piece.clear();
      bool goes_on = take_token(text, logits_pv[static_cast<int64_t>(i)]) == Next::kRead;
      if (goes_on && decoder.position(text.sequence) >= positions) {
        text.result.ending = Ending::kContext;
        goes_on = false;
      }
      if (!goes_on) text.piece += text.stream.finish();
      listener(text.prompt, text.piece, !goes_on);
      if (goes_on) {
        inputs.push_back({text.sequence, text.result.tokens.back(), options_.adapt == Adapt::kAll, true});
        alive.push_back(std::move(text));
      } else {
        decoder.drop_sequence(text.sequence);
        cost_.tokens_drawn += static_cast<int64_t>(text.result.tokens.size());
        text.result.text = text.stream.text();
        results[text.prompt] = std::move(text.result);
      }
    }
    texts = std::move(alive);
    if (!inputs.empty()) logits_pv = decoder.read(inputs);
  }
  cost_.drawing_s += now_s() - drawing;
  return results;
}

}  // namespace fwl
