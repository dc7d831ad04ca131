#include <unistd.h>

#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/threads.h"
#include "data/byte_source.h"
#include "launch/command.h"
#include "launch/generation/generator.h"
#include "launch/generation/state_file.h"
#include "launch/generation/text_stream.h"
#include "launch/load_model.h"
#include "launch/number_option.h"
#include "launch/standard_output.h"

namespace fwl {
namespace {

using nlohmann::json;

struct GenerateArguments {
  ModelSource source;
  std::vector<std::string> prompts, prompt_files;
  std::string adapt, state_in, state_out, json_path;
  std::vector<std::string> given;  // options of the command line
  int64_t seed = 1;
  bool echo = true;
  GenerationOptions options;
};

std::string all_bytes(const std::string& path) {
  const std::unique_ptr<ByteSource> source = open_bytes(path);
  std::string text;
  std::vector<char> buffer(1 << 16);
  while (const size_t count = source->read(buffer.data(), buffer.size())) text.append(buffer.data(), count);
  return text;
}

// Those of --prompt, then those of --prompt-file; without either: standard input.
std::vector<std::string> prompts_of(const GenerateArguments& a) {
  std::vector<std::string> prompts = a.prompts;
  for (const std::string& path : a.prompt_files) prompts.push_back(all_bytes(path));
  if (!prompts.empty()) return prompts;
  require<ConfigError>(
      isatty(STDIN_FILENO) == 0,
      "there is no prompt. Give --prompt TEXT, --prompt-file FILE, or a text on standard input.");
  return {all_bytes("-")};
}

// Shows texts in the order of their prompts, each as it grows: the first that has not ended is live, what the
// others say waits.
class Screen {
 public:
  // `titles`: empty for one text alone.
  Screen(std::vector<std::string> heads, std::vector<std::string> titles)
      : heads_(std::move(heads)), titles_(std::move(titles)) {
    waiting_.resize(heads_.size());
    ended_.resize(heads_.size());
    begin();
  }
  void show(size_t prompt, const std::string& piece, bool ended) {
    waiting_[prompt] += piece;
    ended_[prompt] = ended;
    while (live_ < heads_.size()) {
      std::cout << std::exchange(waiting_[live_], "") << std::flush;
      if (!ended_[live_]) return;
      std::cout << std::endl;
      ++live_;
      begin();
    }
  }

 private:
  void begin() {
    if (live_ == heads_.size()) return;
    if (!titles_.empty()) std::cout << (live_ == 0 ? "" : "\n") << "==> " << titles_[live_] << " <==\n";
    std::cout << heads_[live_] << std::flush;
  }
  std::vector<std::string> heads_, titles_, waiting_;
  std::vector<char> ended_;
  size_t live_ = 0;
};

json to_json(const std::string& prompt, size_t prompt_tokens, const Continuation& c) {
  return {{"prompt", prompt},
          {"prompt_tokens", prompt_tokens},
          {"text", c.text},
          {"tokens", c.tokens},
          {"ending", name_of(c.ending)}};
}

json cost_json(const GenerationCost& cost) {
  const auto rate = [](int64_t tokens, double seconds) {
    return seconds > 0 ? json(static_cast<double>(tokens) / seconds) : json();
  };
  return {{"tokens_read", cost.tokens_read},
          {"reading_s", cost.reading_s},
          {"read_tokens_per_s", rate(cost.tokens_read, cost.reading_s)},
          {"tokens_drawn", cost.tokens_drawn},
          {"drawing_s", cost.drawing_s},
          {"drawn_tokens_per_s", rate(cost.tokens_drawn, cost.drawing_s)},
          {"memory_bytes", cost.memory_bytes}};
}

GenerationOptions options_of(const GenerateArguments& a, const ModelConfig& model) {
  GenerationOptions options = a.options;
  options.seed = static_cast<uint64_t>(a.seed);
  options.adapt =
      a.adapt.empty() ? (model.fast_weight.learns() ? Adapt::kPrompt : Adapt::kOff) : parse_adapt(a.adapt);
  for (const std::string& stop : options.stops)
    require<ConfigError>(!stop.empty(), "--stop is empty (it would end every text at once). Leave it out.");
  return options;
}

// Of a model whose weights are not finite nothing is generated; the JSON says why.
void refuse_nonfinite(const GenerateArguments& a, const LoadedModel& loaded) {
  const std::vector<std::string> names = nonfinite_parameters(loaded.model->parameters());
  if (names.empty()) return;
  write_json(a.json_path, {{"checkpoint", loaded.info.path},
                           {"finite", false},
                           {"nonfinite_tensors", names},
                           {"continuations", json::array()}});
  throw CheckFailed(cat(loaded.info.path, ": ", nonfinite_problem(names),
                        " (every text would be noise). Give another checkpoint."));
}

std::vector<std::vector<int32_t>> tokens_of(const std::vector<std::string>& texts,
                                            const Tokenizer& tokenizer) {
  std::vector<std::vector<int32_t>> prompts;
  for (const std::string& text : texts) prompts.push_back(tokenizer.encode(text));
  return prompts;
}

std::vector<size_t> lengths_of(const std::vector<std::vector<int32_t>>& prompts) {
  std::vector<size_t> lengths;
  for (const std::vector<int32_t>& prompt : prompts) lengths.push_back(prompt.size());
  return lengths;
}

// A state that is not finite is not kept: the JSON says why.
void write_finite_state(const GenerateArguments& a, const LoadedModel& loaded, const ReadingState& state,
                        uint64_t identity) {
  const std::string broken = nonfinite_part(state);
  if (!broken.empty())
    write_json(a.json_path, {{"checkpoint", loaded.info.path},
                             {"finite", false},
                             {"nonfinite_state", broken},
                             {"continuations", json::array()}});
  write_state(a.state_out, state, identity);
}

// A sentence for each option that was given and changes nothing.
std::vector<std::string> idle_options(const GenerateArguments& a) {
  const bool is_greedy = a.options.sampling.temperature == 0, draws = a.options.max_tokens > 0;
  const std::string greedy = "--temperature 0 always takes the most probable token",
                    nothing = "--max-tokens 0 generates nothing";
  std::vector<std::string> sentences;
  for (const std::string& option : a.given) {
    const bool samples = option == "--top-k" || option == "--top-p" || option == "--seed";
    const bool generates =
        samples || option == "--samples" || option == "--stop" || option == "--temperature";
    if (!draws && generates)
      sentences.push_back(cat(option, " has no effect: ", nothing, "."));
    else if (is_greedy && samples)
      sentences.push_back(cat(option, " has no effect: ", greedy, "."));
    else if (is_greedy && option == "--samples")
      sentences.push_back(cat(option, ": all texts of a prompt are the same, since ", greedy, "."));
  }
  return sentences;
}

void run_generate(const GenerateArguments& a) {
  require_one_rank("generate");
  set_thread_count(1);
  const std::vector<std::string> texts = prompts_of(a);
  require<ConfigError>(a.state_out.empty() || texts.size() == 1,
                       "--state-out needs exactly one prompt, there are ", texts.size(),
                       " (a state belongs to one text). Save one after the other.");
  LoadedModel loaded = open_model(a.source);
  std::vector<std::vector<int32_t>> prompts = tokens_of(texts, *loaded.tokenizer);
  const std::vector<size_t> lengths = lengths_of(prompts);
  const GenerationOptions options = options_of(a, loaded.config.model);
  check_adapt(loaded.config.model, options.adapt);
  StateHead before_prompts;
  if (!a.state_in.empty()) {
    before_prompts = head_of_state(a.state_in);
    check_state(before_prompts.has_fast_weights ? FastState::kHeld : FastState::kAbsent, options.adapt);
  }
  check_prompts(loaded.config.model, lengths, before_prompts.position);
  for (const std::string& idle : idle_options(a)) log_warn(idle);
  load_weights(loaded, a.source);
  refuse_nonfinite(a, loaded);
  const LanguageModel& model = *loaded.model;
  Generator generator(model, *loaded.tokenizer, options);
  const bool uses_states = !a.state_in.empty() || !a.state_out.empty();
  const uint64_t identity = uses_states ? identity_of(model, *loaded.tokenizer) : 0;
  std::optional<ReadingState> before;
  if (!a.state_in.empty())
    before = read_state(a.state_in, identity, model.device(),
                        model.device().is_cpu() ? model.accumulation_type() : model.compute_type());
  if (!a.state_out.empty()) {
    before = generator.read(before, prompts.front());
    prompts.front().clear();
    write_finite_state(a, loaded, *before, identity);
  }
  const auto samples = static_cast<size_t>(options.samples);
  std::vector<std::string> heads, titles;
  std::vector<std::vector<int32_t>> sampled;
  for (size_t i = 0; i < texts.size() * samples; ++i) {
    const size_t prompt = i / samples;
    sampled.push_back(prompts[prompt]);
    heads.push_back(a.echo ? as_utf8(texts[prompt]) : "");
    const std::string title = cat("prompt ", prompt + 1);
    if (texts.size() * samples > 1)
      titles.push_back(samples > 1 ? cat(title, ", sample ", i % samples + 1) : title);
  }
  Screen screen(heads, titles);
  const std::vector<Continuation> results =
      generator.run(before, sampled, [&](size_t prompt, const std::string& piece, bool ended) {
        screen.show(prompt, piece, ended);
        if (a.json_path.empty()) require_reader();
      });

  const GenerationCost& cost = generator.cost();
  log_info(cat("read ", cost.tokens_read, " tokens in ", cost.reading_s, " s, drew ", cost.tokens_drawn,
               " in ", cost.drawing_s, " s"));
  json report = {{"checkpoint", loaded.info.path},
                 {"seed", a.seed},
                 {"adapt", name_of(options.adapt)},
                 {"cost", cost_json(cost)},
                 {"continuations", json::array()}};
  size_t not_finite = 0;
  for (size_t i = 0; i < results.size(); ++i) {
    json continuation = to_json(texts[i / samples], lengths[i / samples], results[i]);
    if (samples > 1) continuation["sample"] = i % samples;
    report["continuations"].push_back(continuation);
    not_finite += results[i].ending == Ending::kNotFinite ? 1 : 0;
    if (results[i].ending == Ending::kContext)
      log_info(cat("text ", i + 1, " ends where the ", *positions_of(model.config()),
                   " learned positions of this model end"));
  }
  report["finite"] = not_finite == 0;
  write_json(a.json_path, report);
  require<CheckFailed>(
      not_finite == 0, not_finite, " of ", results.size(),
      " texts ended where the logits of the next token are not finite (the fast weights diverged). "
      "Try --adapt off, or another checkpoint.");
}

void add_sampling_options(CLI::App& command, GenerateArguments& a) {
  command.add_option("--max-tokens,--tokens", a.options.max_tokens, "tokens to generate per prompt at most")
      ->check(whole_number_from(0))
      ->capture_default_str();
  command.add_option("--temperature", a.options.sampling.temperature, "0: always the most probable token")
      ->check(zero_or_more())
      ->capture_default_str();
  command
      .add_option("--top-k", a.options.sampling.top_k, "draw from the K most probable tokens; 0: from all")
      ->check(whole_number_from(0))
      ->capture_default_str();
  command
      .add_option("--top-p", a.options.sampling.top_p,
                  "draw from the fewest most probable tokens that have probability P together")
      ->check(number_above_zero_to_one())
      ->capture_default_str();
  command
      .add_option("--seed", a.seed,
                  "seed of the draws; a prompt's text does not depend on the prompts beside it")
      ->check(whole_number_from(0))
      ->capture_default_str();
  command
      .add_option("--samples", a.options.samples,
                  "texts for each prompt, the first as without it, each other from a seed of its own")
      ->check(whole_number_from(1))
      ->capture_default_str();
  command
      .add_option("--stop", a.options.stops,
                  "end a text before this string, across token borders too (may be given again)")
      ->type_name("STRING")
      ->allow_extra_args(false);
}

}  // namespace

void add_generate_command(CLI::App& app) {
  auto a = std::make_shared<GenerateArguments>();
  CLI::App* command = app.add_subcommand(
      "generate", "continue texts with a trained model whose fast weights learn while it reads and writes");
  add_model_options(*command, a->source);
  command->add_option("--prompt,--prefix", a->prompts, "text to continue (may be given again)")
      ->type_name("TEXT")
      ->allow_extra_args(false);
  command
      ->add_option("--prompt-file", a->prompt_files,
                   "file that holds a text to continue, compressed too (gzip, zstd, bzip2, xz); -: standard "
                   "input, as without any prompt (may be given again)")
      ->type_name("FILE")
      ->allow_extra_args(false);
  command
      ->add_option("--adapt", a->adapt,
                   "what the fast weights learn from: the prompt, all (prompt and generated text), or off: "
                   "static weights (default: prompt; off for a model without fast weights)")
      ->check(CLI::IsMember({"prompt", "all", "off"}));
  command
      ->add_option("--state-out", a->state_out,
                   "save the state after reading the prompt; with --max-tokens 0 nothing else is done")
      ->type_name("FILE")
      ->check(file_in_a_folder());
  command->add_option("--state-in", a->state_in, "go on from a saved state: the prompts follow what was read")
      ->type_name("FILE");
  add_sampling_options(*command, *a);
  command->add_flag("!--no-echo", a->echo, "print the continuation without its prompt");
  add_json_option(*command, a->json_path);
  command->callback([a, command] {
    a->given = given_options(*command);
    run_generate(*a);
  });
}

}  // namespace fwl
