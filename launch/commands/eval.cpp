#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/base/error.h"
#include "core/base/log.h"
#include "launch/command.h"
#include "launch/evaluator.h"
#include "launch/load_model.h"

namespace fwl {
namespace {

using nlohmann::json;

struct EvalArguments {
  ModelSource source;
  std::string data, modes, train_data, tune_data, json_path;
  EvalOptions options;
  double dynamic_rate = -1;  // below 0: the rule's default
  int64_t tune_documents = 0;
};

// Learning rates that work on models of a few million parameters; --tune finds the right one for another
// model.
double default_rate(const std::string& rule) {
  return rule == "sgd" ? 0.1 : 3e-4;
}

std::vector<EvalMode> modes_of(const std::string& text, const LanguageModel& model) {
  std::vector<EvalMode> modes;
  std::stringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');) modes.push_back(parse_eval_mode(part));
  require<ConfigError>(!modes.empty(), "--modes is empty. Choose among slow, fast, carried, dynamic.");
  for (const EvalMode mode : modes) {
    const bool fast = mode == EvalMode::kFast || mode == EvalMode::kCarried;
    require<ConfigError>(!fast || model.has_fast_weights(), "--modes ", name_of(mode),
                         ": this model has no fast weights (it was trained with "
                         "model.fast_weight.update=none). Leave it out.");
  }
  return modes;
}

// The training split beside the one that is evaluated, unless given.
std::string train_split_of(const EvalArguments& a) {
  return a.train_data.empty()
             ? (std::filesystem::path(a.data).lexically_normal() / ".." / "train").lexically_normal().string()
             : a.train_data;
}

Tensor statistics_for(const EvalArguments& a, LoadedModel& loaded) {
  if (a.options.dynamic.rule != "rms") return {};
  const Split train(train_split_of(a));
  return gradient_mean_square(*loaded.model, train, a.options.dynamic.statistics_batches,
                              loaded.config.train.global_batch,
                              static_cast<uint64_t>(loaded.config.train.seed));
}

// Goes up and down from the start in factors of 3 (then of sqrt 3) while the validation loss falls.
double tune_rate(const EvalArguments& a, LoadedModel& loaded, const Tensor& mean_square) {
  Split split(a.tune_data);
  EvalOptions options = a.options;
  options.max_documents = a.tune_documents;
  options.spread = true;
  const auto loss_at = [&](double rate) {
    options.dynamic.learning_rate = rate;
    const double nats =
        Evaluator(*loaded.model, split, options).run(EvalMode::kDynamic, mean_square).nats_per_token();
    // Too high a rate diverges: worse than any number.
    const double loss = std::isfinite(nats) ? nats : std::numeric_limits<double>::infinity();
    log_info(cat("tuning dynamic evaluation: learning rate ", rate, " gives ", loss, " nats per token"));
    return loss;
  };
  double best = a.options.dynamic.learning_rate, best_loss = loss_at(best);
  for (const double factor : {3.0, 1.7320508}) {
    for (const double step : {factor, 1 / factor}) {
      for (double rate = best * step;; rate *= step) {
        const double loss = loss_at(rate);
        const bool diverged = std::isinf(best_loss) && rate < best;  // go on downwards until it is finite
        if (!(loss < best_loss) && !(diverged && rate > 1e-12)) break;
        best = rate;
        best_loss = loss;
      }
    }
  }
  return best;
}

json to_json(const EvalResult& r, double slow_seconds) {
  return {{"nats_per_token", r.nats_per_token()},
          {"perplexity", r.perplexity()},
          {"bits_per_byte", r.bits_per_byte()},
          {"tokens", r.tokens},
          {"documents", r.documents},
          {"bytes", r.bytes},
          {"tokens_per_s", r.tokens_per_s()},
          {"seconds", r.seconds},
          {"relative_time", slow_seconds > 0 ? json(r.seconds / slow_seconds) : json()},
          {"peak_memory_bytes", r.peak_memory_bytes}};
}

void print_table(const std::vector<EvalResult>& results, double slow_seconds) {
  std::printf("%-8s %10s %10s %11s %10s %11s %9s %10s\n", "mode", "tokens", "nats/token", "perplexity",
              "bits/byte", "tokens/s", "time", "memory");
  for (const EvalResult& r : results) {
    char time[16] = "-";
    if (slow_seconds > 0) std::snprintf(time, sizeof time, "%.2fx", r.seconds / slow_seconds);
    std::printf("%-8s %10lld %10.4f %11.3f %10.4f %11.0f %9s %7.0f MB\n", name_of(r.mode),
                static_cast<long long>(r.tokens), r.nats_per_token(), r.perplexity(), r.bits_per_byte(),
                r.tokens_per_s(), time, static_cast<double>(r.peak_memory_bytes) / 1e6);
  }
}

void run_eval(EvalArguments a) {
  set_thread_count(1);
  LoadedModel loaded = load_model(a.source);
  if (a.modes.empty()) a.modes = loaded.model->has_fast_weights() ? "slow,fast,dynamic" : "slow,dynamic";
  const std::vector<EvalMode> modes = modes_of(a.modes, *loaded.model);
  a.options.dynamic.learning_rate =
      a.dynamic_rate >= 0 ? a.dynamic_rate : default_rate(a.options.dynamic.rule);
  Split split(a.data);
  Evaluator check(*loaded.model, split, a.options);  // bad data is refused before the statistics are gathered
  Tensor mean_square;
  if (std::count(modes.begin(), modes.end(), EvalMode::kDynamic) > 0) {
    mean_square = statistics_for(a, loaded);
    if (!a.tune_data.empty()) a.options.dynamic.learning_rate = tune_rate(a, loaded, mean_square);
  }
  Evaluator evaluator(*loaded.model, split, a.options);
  std::vector<EvalResult> results;
  double slow_seconds = 0;
  for (const EvalMode mode : modes) {
    results.push_back(evaluator.run(mode, mean_square));
    if (mode == EvalMode::kSlow) slow_seconds = results.back().seconds;
  }
  print_table(results, slow_seconds);
  json report = {{"checkpoint", loaded.info.path},
                 {"data", a.data},
                 {"step", loaded.info.progress.step},
                 {"train_tokens", loaded.info.progress.tokens}};
  for (const EvalResult& r : results) report["modes"][name_of(r.mode)] = to_json(r, slow_seconds);
  if (report["modes"].contains("dynamic")) {
    const DynamicEvaluationConfig& d = a.options.dynamic;
    report["dynamic"] = {{"rule", d.rule},
                         {"learning_rate", d.learning_rate},
                         {"decay", d.decay},
                         {"segment", d.segment},
                         {"reset", d.reset}};
  }
  write_json(a.json_path, report);
}

void add_dynamic_options(CLI::App& command, EvalArguments& a) {
  DynamicEvaluationConfig& d = a.options.dynamic;
  command.add_option("--dynamic-rule", d.rule, "update rule")
      ->check(CLI::IsMember({"sgd", "rms"}))
      ->capture_default_str();
  command
      .add_option("--dynamic-learning-rate", a.dynamic_rate,
                  "learning rate (default: 0.1 for sgd, 3e-4 for rms)")
      ->check(CLI::NonNegativeNumber);
  command.add_option("--dynamic-decay", d.decay, "decay towards the trained weights")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  command.add_option("--dynamic-epsilon", d.epsilon, "added to the root of the mean squares (rms)")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command.add_option("--dynamic-segment", d.segment, "tokens between updates")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command.add_option("--dynamic-reset", d.reset, "back to the trained weights at each document, or never")
      ->check(CLI::IsMember({"document", "stream"}))
      ->capture_default_str();
  command
      .add_option("--dynamic-statistics", d.statistics_batches, "training batches for the mean squares (rms)")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command
      .add_option("--train-data", a.train_data, "split for the mean squares (default: `train` beside --data)")
      ->type_name("DIR");
  command.add_option("--tune", a.tune_data, "search the learning rate on this split first")->type_name("DIR");
  command.add_option("--tune-documents", a.tune_documents, "documents to tune on; 0: all")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
}

}  // namespace

void add_eval_command(CLI::App& app) {
  auto a = std::make_shared<EvalArguments>();
  CLI::App* command = app.add_subcommand(
      "eval", "score held-out documents: static, fast weights, dynamic evaluation side by side");
  add_model_options(*command, a->source);
  command->add_option("--data", a->data, "split to score, e.g. DIR/test")->required()->type_name("DIR");
  command
      ->add_option(
          "--modes", a->modes,
          "comma-separated: slow, fast, carried, dynamic (default: slow, dynamic, and fast if the model has "
          "fast weights)")
      ->type_name("LIST");
  command->add_option("--max-documents", a->options.max_documents, "score the first N documents; 0: all")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--context", a->options.context, "tokens per window; 0: as trained")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command
      ->add_option("--carry", a->options.carry,
                   "carried: state and attention window go on from window to window of a document, or of the "
                   "whole stream of documents")
      ->check(CLI::IsMember({"document", "stream"}))
      ->capture_default_str();
  command->add_option("--batch", a->options.batch, "windows (slow, fast) or documents (carried) at once")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  add_dynamic_options(*command, *a);
  add_json_option(*command, a->json_path);
  command->callback([a] { run_eval(*a); });
}

}  // namespace fwl
