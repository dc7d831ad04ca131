#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/base/error.h"
#include "core/base/hex.h"
#include "core/base/json.h"
#include "core/base/log.h"
#include "core/base/new_file.h"
#include "core/base/threads.h"
#include "data/utf8.h"
#include "launch/command.h"
#include "launch/generation/score_page.h"
#include "launch/generation/scorer.h"
#include "launch/load_model.h"
#include "launch/number_option.h"

namespace fwl {
namespace {

using json = nlohmann::ordered_json;

struct ScoreArguments {
  ModelSource source;
  std::string file, json_path, html_path;
  ScoreOptions options;
};

// "text" when the token's bytes are whole characters, else "bytes" in hexadecimal.
json token_json(const ScoredToken& t, bool has_fast) {
  json token = {{"id", t.id}};
  if (invalid_utf8_bytes(t.bytes) == 0) {
    token["text"] = t.bytes;
  } else {
    token["bytes"] = to_hex(t.bytes);
  }
  token["slow"] = t.slow;
  token["fast"] = has_fast ? json(t.fast) : json();
  return token;
}

json pass_json(double sum, const ScoreTotals& totals) {
  const double nats = -sum / static_cast<double>(totals.tokens);
  return {{"log_probability", sum},
          {"nats_per_token", nats},
          {"perplexity", std::exp(nats)},
          {"bits_per_byte", -sum / std::log(2.0) / static_cast<double>(totals.bytes)}};
}

// One JSON object, written token by token: to standard output, or to a file that appears when it is whole.
class ScoreJson {
 public:
  explicit ScoreJson(const std::string& path) {
    if (!path.empty()) file_.emplace(path);
  }
  // `head`: members that come first.
  void begin(const json& head) {
    const std::string text = json_text(head);
    write(cat(text.substr(0, text.size() - 1), ",\n\"tokens\": ["));
  }
  void add(const json& token) { write((std::exchange(first_, false) ? "\n" : ",\n") + json_text(token)); }
  void finish(const json& totals) {
    write(cat("\n],\n\"totals\": ", json_text(totals), "}\n"));
    if (file_) return file_->publish();
    std::cout << std::flush;  // main() looks after stdout
  }

 private:
  void write(const std::string& text) {
    if (file_) return file_->write(text);
    std::cout << text;
  }
  std::optional<NewFile> file_;
  bool first_ = true;
};

std::string about(const ScoreArguments& a, const std::string& file, int64_t context) {
  return cat(
      "Each token of ", file,
      " is coloured by what the fast weights gained: the difference of its "
      "log-probability under the fast and under the slow weights, given the text before it. Blue: the "
      "fast weights made it more probable; orange: less. Hover over a token for its numbers. Windows of ",
      context, " tokens, ",
      a.options.carry ? "the state carried from window to window." : "each starts with empty fast weights.");
}

// Sums that are not finite are null.
json totals_json(const ScoreTotals& totals, bool has_fast) {
  const bool finite = std::isfinite(totals.slow) && std::isfinite(totals.fast);
  return {{"tokens", totals.tokens},
          {"bytes", totals.bytes},
          {"finite", finite},
          {"slow", pass_json(totals.slow, totals)},
          {"fast", has_fast ? pass_json(totals.fast, totals) : json()}};
}

void run_score(const ScoreArguments& a) {
  require_one_rank("score");
  set_thread_count(1);
  // What is missing or does not fit is refused before the weights are read.
  const std::unique_ptr<ByteSource> source = open_bytes(a.file);
  LoadedModel loaded = open_model(a.source);
  const ModelConfig& config = loaded.config.model;
  const bool has_fast = config.fast_weight.learns();
  require<ConfigError>(a.html_path.empty() || has_fast,
                       "--html shows what fast weights gain, and this model has none "
                       "(model.fast_weight.update is none). Leave it out.");
  TextTokens text(*source, *loaded.tokenizer);
  check_length(config, text, a.options);
  require<DataError>(!text.is_empty(), "the text is empty (there is no token to score). Give another file.");
  const std::string name = a.file == "-" ? "standard input" : a.file;
  const int64_t context = a.options.context > 0 ? a.options.context : config.context;
  ScoreJson report(a.json_path);
  std::optional<ScorePage> page;
  if (!a.html_path.empty()) page.emplace(a.html_path);
  load_weights(loaded, a.source);
  json head = {
      {"file", name},
      {"checkpoint", loaded.info.path},
      {"tokenizer", {{"kind", loaded.tokenizer->kind()}, {"hash", to_hex(loaded.tokenizer->hash())}}},
      {"context", context},
      {"carry", a.options.carry}};
  const std::vector<std::string> broken = nonfinite_parameters(loaded.model->parameters());
  if (!broken.empty()) {
    head["nonfinite_tensors"] = broken;
    report.begin(head);
    report.finish({{"tokens", 0}, {"bytes", 0}, {"finite", false}, {"slow", json()}, {"fast", json()}});
    throw CheckFailed(cat(loaded.info.path, ": ", nonfinite_problem(broken),
                          " (no probability would be a number). Give another checkpoint."));
  }
  bool begun = false;
  const auto visit = [&](const ScoredToken& token) {
    if (!std::exchange(begun, true)) report.begin(head);
    report.add(token_json(token, has_fast));
    if (page.has_value()) page->add(token);
  };
  const ScoreTotals totals = score_text(*loaded.model, *loaded.tokenizer, text, a.options, visit);
  report.finish(totals_json(totals, has_fast));
  if (page.has_value())
    page->finish(cat("What the fast weights gained: ", name), about(a, name, context), totals);
  require<CheckFailed>(std::isfinite(totals.slow) && std::isfinite(totals.fast), name,
                       ": log-probabilities are not finite (null in the JSON; the ",
                       std::isfinite(totals.slow) ? "fast weights" : "model",
                       " diverged on this text). Score it ", "without --carry, or with another checkpoint.");
}

}  // namespace

void add_score_command(CLI::App& app) {
  auto a = std::make_shared<ScoreArguments>();
  CLI::App* command = app.add_subcommand(
      "score", "log-probability of every token of a text under slow and fast weights, as JSON and as a page");
  add_model_options(*command, a->source);
  command
      ->add_option("file", a->file,
                   "text to score, compressed too (gzip, zstd, bzip2, xz); -: standard input")
      ->required()
      ->type_name("FILE");
  command->add_option("--context", a->options.context, "tokens per window; 0: as trained")
      ->check(whole_number_from(0))
      ->capture_default_str();
  command->add_flag("--carry", a->options.carry,
                    "fast weights and attention window go on from window to window (else each starts anew)");
  command
      ->add_option("--json", a->json_path,
                   "write the JSON to this file (default: to standard output). Log-probabilities are in nats")
      ->type_name("FILE")
      ->check(file_in_a_folder());
  command
      ->add_option("--html", a->html_path,
                   "write a page too: the text coloured by what the fast weights gained at each token")
      ->type_name("FILE")
      ->check(file_in_a_folder());
  keep_outputs_apart(*command);
  command->callback([a] { run_score(*a); });
}

}  // namespace fwl
