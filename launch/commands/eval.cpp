#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/threads.h"
#include "launch/command.h"
#include "launch/evaluation/comparison.h"
#include "launch/number_option.h"
#include "parallel/session.h"

namespace fwl {
namespace {

// Ranks may finish hours apart; a rank that fails ends the job.
constexpr double kTimeoutS = 7 * 24 * 3600.0;

struct EvalArguments {
  ComparisonOptions options;
  std::string modes, carry = "document", json_path;
};

std::vector<EvalMode> modes_of(const std::string& text) {
  std::vector<EvalMode> modes;
  if (text.empty()) return modes;
  require<ConfigError>(text.back() != ',', "--modes '", text,
                       "' ends with a comma (a mode is missing). Name it, or leave the comma out.");
  std::stringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');) {
    const EvalMode mode = parse_eval_mode(part);
    const bool is_new = std::find(modes.begin(), modes.end(), mode) == modes.end();
    require<ConfigError>(is_new, "--modes names ", part, " twice. Name it once.");
    modes.push_back(mode);
  }
  return modes;
}

void run_eval(EvalArguments a) {
  const Placement& place = world();
  set_log_rank(place.rank, place.size);
  log_info(set_thread_count(place.local_size));
  a.options.modes = modes_of(a.modes);
  a.options.carries = parse_carry_list(a.carry);
  const std::unique_ptr<Communicator> group = make_world_communicator(kTimeoutS);
  const Comparison comparison = compare(a.options, *group);
  if (place.rank != 0) return;
  std::fputs(table_of(comparison.results, comparison.static_result()).c_str(), stdout);
  for (const std::string& notice : comparison.notices) std::printf("note: %s\n", notice.c_str());
  write_json(a.json_path, to_json(comparison));
  std::string failures;
  for (const std::string& failure : comparison.failures) failures += (failures.empty() ? "" : "; ") + failure;
  require<CheckFailed>(
      failures.empty(), failures,
      " (null in the JSON; other results stand). Give another checkpoint, or for a rate that diverges a "
      "smaller --dynamic-learning-rate.");
}

void add_reading_options(CLI::App& command, ComparisonOptions& o) {
  command.add_option("--max-documents", o.eval.reading.max_documents, "score the first N documents; 0: all")
      ->check(whole_number_from(0))
      ->capture_default_str();
  command.add_flag("--spread", o.eval.reading.spread,
                   "take the N documents of --max-documents evenly from the whole split");
  command.add_option("--context", o.eval.reading.context, "tokens per window; 0: as trained")
      ->check(whole_number_from(0))
      ->capture_default_str();
  command
      .add_option("--stride", o.eval.reading.stride,
                  "tokens by which the window slides, so that all but a document's first are scored with at "
                  "least context - stride tokens before them; 0: the context")
      ->check(whole_number_from(0))
      ->capture_default_str();
  command
      .add_option("--streams", o.eval.streams,
                  "modes that never reset: cut the split into N streams, each read from the start")
      ->check(whole_number_from(1))
      ->capture_default_str();
  command.add_option("--batch", o.eval.batch, "windows (slow, fast) or documents (carried) at once")
      ->check(whole_number_from(1))
      ->capture_default_str();
  command.add_flag(
      "--words", o.words,
      "also perplexity per word: per run of bytes without ASCII whitespace of the original text");
  command
      .add_option("--count-tokens", o.count_tokens,
                  "training tokens that are counted, for losses by frequency in the JSON; 0: none")
      ->check(whole_number_from(0))
      ->capture_default_str();
}

void add_tuning_options(CLI::App& command, ComparisonOptions& o) {
  command
      .add_option(
          "--tune", o.tune_data,
          "search on this split first: rule, learning rate and decay of dynamic evaluation, as far as "
          "they are not given; the step size of fast-untrained. Without it, that step size and a learning "
          "rate that is "
          "not given are chosen on `valid` beside --data, the rate on the begin of 4 documents")
      ->type_name("DIR");
  command
      .add_option("--tune-documents", o.tune_documents, "documents to tune on; 0: all (without --tune: 4)")
      ->check(whole_number_from(0))
      ->capture_default_str();
  command
      .add_option("--untrained-step-size", o.untrained_step_size,
                  "fast-untrained: step size times the model's width, instead of the search")
      ->check(above_zero());
}

void add_dynamic_options(CLI::App& command, ComparisonOptions& o) {
  DynamicEvaluationConfig& d = o.dynamic;
  command.add_option("--dynamic-rule", o.dynamic_rule, "update rule (default: rms)")
      ->check(CLI::IsMember({"sgd", "rms"}));
  command
      .add_option("--dynamic-learning-rate", o.dynamic_learning_rate,
                  "learning rate (default: chosen on a validation split, see --tune)")
      ->check(zero_or_more());
  command.add_option("--dynamic-decay", o.dynamic_decay, "decay towards the trained weights (default: 0)")
      ->check(number_from_zero_to_one());
  command.add_option("--dynamic-epsilon", d.epsilon, "added to the root of the mean squares (rms)")
      ->check(zero_or_more())
      ->capture_default_str();
  command.add_option("--dynamic-segment", d.segment, "tokens between updates")
      ->check(whole_number_from(1))
      ->capture_default_str();
  command.add_option("--dynamic-reset", d.reset, "back to the trained weights at each document, or never")
      ->check(CLI::IsMember({"document", "stream"}))
      ->capture_default_str();
  command
      .add_option("--dynamic-statistics", d.statistics_batches, "training batches for the mean squares (rms)")
      ->check(whole_number_from(1))
      ->capture_default_str();
  command
      .add_option("--train-data", o.train_data, "split for the mean squares (default: `train` beside --data)")
      ->type_name("DIR");
}

}  // namespace

void add_eval_command(CLI::App& app) {
  auto a = std::make_shared<EvalArguments>();
  ComparisonOptions& o = a->options;
  CLI::App* command = app.add_subcommand("eval",
                                         "score held-out documents: static, fast weights, dynamic evaluation "
                                         "side by side; under `launch/mpirun.sh -n N` on N ranks, with "
                                         "the same result");
  add_model_options(*command, o.model);
  add_inner_logits_option(*command, o.model.inner);
  command->add_option("--data", o.data, "split to score, e.g. DIR/test")->required()->type_name("DIR");
  command
      ->add_option("--modes", a->modes,
                   "comma-separated: " + eval_mode_names() +
                       " (default: slow, fast if the model has fast weights, and dynamic if there is text to "
                       "choose its "
                       "rate on)")
      ->type_name("LIST")
      ->check([](const std::string& text) {
        return std::string(text.empty() ? "the list is empty. Name a mode, or leave it out" : "");
      });
  command
      ->add_option("--static", o.static_checkpoint,
                   "control whose slow pass the modes are compared with (default: the model's own slow pass)")
      ->type_name("CHECKPOINT");
  add_reading_options(*command, o);
  command
      ->add_option(
          "--carry", a->carry,
          "carried modes: how far the fast weights go on before they start from zero again: document, "
          "stream (of all documents), N tokens of a document, stream:N; several with commas, each a "
          "result of its own")
      ->type_name("LIST")
      ->capture_default_str();
  add_dynamic_options(*command, o);
  add_tuning_options(*command, o);
  add_json_option(*command, a->json_path);
  command->callback([a, command] {
    a->options.given = given_options(*command);
    run_eval(*a);
  });
}

}  // namespace fwl
