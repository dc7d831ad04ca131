#include "launch/evaluation/comparison.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "checkpoints/identity.h"
#include "core/base/error.h"
#include "core/base/log.h"
#include "launch/data_facts.h"
#include "launch/evaluation/breakdown.h"
#include "launch/evaluation/counts.h"
#include "launch/evaluation/idle_options.h"
#include "launch/evaluation/mode_settings.h"
#include "launch/evaluation/texts.h"
#include "launch/evaluation/turns.h"
#include "launch/evaluation/untrained.h"
#include "parallel/mesh.h"
#include "parallel/session.h"

namespace fwl {
namespace {

using nlohmann::json;

std::string host_name() {
  char name[256] = "";
  ::gethostname(name, sizeof name - 1);
  return name;
}

// Before anything is computed.
void check_modes(const std::vector<EvalMode>& modes, const ModelConfig& model,
                 const InnerApproximation& inner) {
  for (const EvalMode mode : modes) {
    const bool needs = traits_of(mode).pass == Pass::kFast && mode != EvalMode::kFastUntrained;
    if (mode == EvalMode::kFastUntrained)
      require_control(model);
    else
      require_fast_weights(mode, model);
    require<ConfigError>(
        inner.exact() || !needs || !traits_of(mode).adapts,
        inner.threshold > 0 ? "--inner-threshold" : "--inner-logits fp8", " with --modes ", name_of(mode),
        ": its gradient goes through the layer and needs the exact inner gradients. Leave one "
        "of them out.");
    require<ConfigError>(
        mode != EvalMode::kSlowCarried || model.window > 0,
        "--modes slow-carried: this model attends to whole windows (model.window=0), so that "
        "no window of attention goes on. Leave it out; --stride gives its windows more "
        "context.");
  }
}

// What is the same for all modes: words of the documents, and the training split's tokens by id.
struct Surroundings {
  std::vector<double> words;
  std::vector<int64_t> train_counts;  // empty: not counted

  Surroundings(const ComparisonOptions& options, const EvaluationTexts& texts, const ReadingPlan& plan,
               int rank) {
    if (options.words) words = words_of(texts.data, plan.documents());
    if (options.count_tokens == 0 || rank != 0) return;
    if (!texts.train) {
      log_info(cat("losses by frequency in training are left out: '", texts.data.path(),
                   "/train' is no split with text. Give --train-data DIR/SPLIT to have them."));
      return;
    }
    train_counts = token_counts(*texts.train, options.count_tokens);
  }
  void add_to(EvalResult& result) const {
    result.words = words;
    if (!result.is_finite()) result.scored = {};  // bins of no numbers say nothing
    if (result.scored.nats.empty()) return;
    const bool counted = !train_counts.empty();
    const int32_t largest = *std::max_element(result.scored.token.begin(), result.scored.token.end());
    const std::vector<int64_t> none(counted ? 0 : static_cast<size_t>(largest) + 1, 0);
    result.breakdowns = breakdowns(result.scored, counted ? train_counts : none);
    if (!counted) result.breakdowns.erase("train_frequency");
    result.scored = {};
  }
};

std::string notice_of(const std::string& name, const EvalOptions& eval, int ranks) {
  if (eval.streams == 1)
    return cat(name, ": one stream is read from begin to end, so one of ", ranks,
               " ranks reads it and the others wait. Give --streams N to cut the split into N streams, each "
               "read from the start (other numbers than one stream's).");
  if (eval.streams < ranks)
    return cat(name, ": ", eval.streams, " streams keep ", eval.streams, " of ", ranks,
               " ranks busy. Give --streams ", ranks, " or more.");
  return "";
}

// One result of the comparison.
struct Entry {
  EvalMode mode;
  Carry carry;
  std::string name;
};

std::vector<Entry> entries_of(const std::vector<EvalMode>& modes, const std::vector<Carry>& carries) {
  std::vector<Entry> entries;
  for (const EvalMode mode : modes) {
    const ModeTraits& traits = traits_of(mode);
    const bool keeps_state = traits.carries && traits.pass == Pass::kFast;  // what --carry is about
    if (!keeps_state) entries.push_back({mode, {}, name_of(mode)});
    if (!keeps_state) continue;
    for (const Carry& carry : carries)
      entries.push_back({mode, carry, result_name(mode, carry, carries.size() == 1)});
  }
  return entries;
}

json json_of(const std::vector<Carry>& carries) {
  std::string list;
  for (const Carry& carry : carries) list += (list.empty() ? "" : ",") + to_string(carry);
  return list;
}

// All that a comparison reads, opened and checked before any weights are: the model, the control, the splits,
// the modes.
struct Inputs {
  LoadedModel model;
  std::optional<LoadedModel> reference;  // --static
  EvaluationTexts texts;
  std::vector<EvalMode> modes;
  std::vector<Carry> carries;
};

ModelSource reference_source(const ComparisonOptions& options) {
  ModelSource source = options.model;
  source.checkpoint = options.static_checkpoint;
  return source;
}

LoadedModel open_reference(const ComparisonOptions& options, const LoadedModel& model) {
  LoadedModel reference = open_model(reference_source(options));
  const TokenizerIdentity own = identity_of(*model.tokenizer), other = identity_of(*reference.tokenizer);
  require<DataError>(own == other, "--static ", options.static_checkpoint, ": its tokenizer is not that of ",
                     options.model.checkpoint, " (", to_string(other), " and ", to_string(own),
                     ": their losses per token are of different tokens). Give a control that was trained on "
                     "the same data set.");
  return reference;
}

// What `fwl eval` runs when no modes are named: dynamic evaluation where its rate and statistics can be had.
std::vector<EvalMode> default_modes(const ComparisonOptions& options, const Inputs& inputs,
                                    std::vector<std::string>* notices) {
  std::vector<EvalMode> modes = {EvalMode::kSlow};
  if (inputs.model.config.model.fast_weight.learns()) modes.push_back(EvalMode::kFast);
  try {
    require_texts_of(EvalMode::kDynamic, options, inputs.texts);
    modes.push_back(EvalMode::kDynamic);
  } catch (const ConfigError& error) {
    notices->push_back(cat("dynamic is left out: ", error.what()));
  }
  return modes;
}

Inputs open_inputs(const ComparisonOptions& options, std::vector<std::string>* notices) {
  LoadedModel model = open_model(options.model);
  EvaluationTexts texts = open_texts(options, model);
  Inputs inputs{std::move(model), {}, std::move(texts), options.modes, options.carries};
  *notices = inputs.texts.notices;
  if (!options.static_checkpoint.empty()) inputs.reference = open_reference(options, inputs.model);
  if (inputs.carries.empty()) inputs.carries = {Carry{}};
  if (inputs.modes.empty()) inputs.modes = default_modes(options, inputs, notices);
  check_modes(inputs.modes, inputs.model.config.model, options.model.inner);
  for (const EvalMode mode : inputs.modes) require_texts_of(mode, options, inputs.texts);
  for (const std::string& idle : idle_options(options, inputs.modes, inputs.carries))
    notices->push_back(idle);
  if (const std::string left_out = rules_left_out(options, inputs.modes, inputs.texts); !left_out.empty())
    notices->push_back(left_out);
  return inputs;
}

Facts checkpoints_of(const Inputs& inputs) {
  const auto of = [](const LoadedModel& model) { return checkpoint_identity_or_gone(model.info.path); };
  return {{"checkpoint", of(inputs.model)}, {"control", inputs.reference ? of(*inputs.reference) : "none"}};
}

// What all ranks must have alike: node-local copies of a run or a text may be of two ages.
Facts facts_of(const Inputs& inputs) {
  const EvaluationTexts& texts = inputs.texts;
  const auto of = [](const std::optional<Split>& split) { return split ? content_hash(*split) : "none"; };
  Facts facts = data_facts({&texts.data});
  const Facts checkpoints = checkpoints_of(inputs);
  facts.insert(facts.end(), checkpoints.begin(), checkpoints.end());
  facts.insert(facts.end(), {{"data", content_hash(texts.data)},
                             {"train data", of(texts.train)},
                             {"tune data", of(texts.tune)},
                             {"checkpoint's step", cat(inputs.model.info.progress.step)},
                             {"checkpoint's samples", to_hex(inputs.model.info.data.rolling_hash)}});
  return facts;
}

// A mode between its preparation and its result.
struct Running {
  std::string name;
  EvalMode mode;
  PreparedMode prepared;
  std::unique_ptr<Evaluator> evaluator;
};

class Comparing {
 public:
  Comparing(ComparisonOptions options, Inputs& inputs, Communicator& group)
      : options_(std::move(options)), inputs_(inputs), group_(group) {}

  // Weights that are not finite are not evaluated: every result would be none.
  void run(Comparison& comparison) {
    comparison.failures = load();
    const bool sound = comparison.failures.empty();
    if (sound) {
      prepare(comparison);
      read();
    } else {
      for (const Entry& entry : entries()) {
        PreparedMode prepared;
        prepared.failure = "weights";
        add(entry.name, entry.mode, *inputs_.model.model, std::move(prepared));
      }
    }
    finish(comparison);
    if (!sound) return;
    for (const Running& running : running_)
      if (!running.prepared.failure.empty())
        comparison.failures.push_back(cat(running.name, ": ", running.prepared.failure));
  }

 private:
  std::vector<Entry> entries() const { return entries_of(inputs_.modes, inputs_.carries); }

  // What is wrong with the weights, of each checkpoint.
  std::vector<std::string> load() {
    std::vector<std::string> problems;
    const auto load_and_check = [&](LoadedModel& model, const ModelSource& source) {
      load_weights(model, source, world().local_rank);
      const std::string problem = nonfinite_problem(nonfinite_parameters(model.model->parameters()));
      if (!problem.empty()) problems.push_back(cat(model.info.path, ": ", problem));
    };
    load_and_check(inputs_.model, options_.model);
    require_own_gpus(group_, inputs_.model.model->device());
    if (inputs_.reference) load_and_check(*inputs_.reference, reference_source(options_));
    // Again: of a run that goes on, the newest may have taken the place of the one that was opened.
    require_same_facts(group_, "what was loaded", checkpoints_of(inputs_),
                       "(the run has removed it meanwhile). Start again.");
    return problems;
  }

  void add(const std::string& name, EvalMode mode, LanguageModel& model, PreparedMode prepared) {
    auto evaluator = std::make_unique<Evaluator>(model, inputs_.texts.data, options_.eval, group_);
    running_.push_back({name, mode, std::move(prepared), std::move(evaluator)});
  }

  void prepare(Comparison& comparison) {
    if (inputs_.reference) {
      PreparedMode prepared;
      prepared.settings = {{"checkpoint", inputs_.reference->info.path}};
      add("static", EvalMode::kSlow, *inputs_.reference->model, std::move(prepared));
    }
    ModeSettings settings(options_, inputs_.texts, inputs_.model, group_);
    for (const Entry& entry : entries()) {
      options_.eval.carry = entry.carry;
      PreparedMode prepared = settings.prepare(entry.mode, entry.carry);
      LanguageModel& model = prepared.model ? *prepared.model : *inputs_.model.model;
      add(entry.name, entry.mode, model, std::move(prepared));
      note(running_.back(), comparison);
    }
    const std::string kernels = running_.empty() ? "" : running_.front().evaluator->describe_kernels();
    if (!kernels.empty()) log_info(kernels);
  }

  void note(const Running& running, Comparison& comparison) const {
    const auto add_once = [&](const std::string& notice) {
      std::vector<std::string>& all = comparison.notices;
      if (!notice.empty() && std::find(all.begin(), all.end(), notice) == all.end()) all.push_back(notice);
    };
    const json& settings = running.prepared.settings;
    const bool tuned = settings.is_object() && settings.value("tuned", false);
    if (tuned && options_.tune_data.empty() && same_text(*inputs_.texts.tune, inputs_.texts.data))
      add_once(cat("what ", running.name,
                   " was tuned on is --data itself: it looks better than it is. Tune on "
                   "another split (--tune)."));
    if (group_.size() == 1 || !running.evaluator->waits_for_streams(running.mode, running.prepared.dynamic))
      return;
    const std::string notice = notice_of(running.name, running.evaluator->options(), group_.size());
    if (!notice.empty()) log_info(notice);
    add_once(notice);
  }

  void read() {
    std::vector<Evaluator*> turns;
    for (Running& running : running_) {
      if (!running.prepared.failure.empty()) continue;
      running.evaluator->begin(running.mode, running.prepared.dynamic);
      turns.push_back(running.evaluator.get());
    }
    read_in_turns(turns, group_);
  }

  void finish(Comparison& comparison) {
    const Surroundings surroundings(options_, inputs_.texts, running_.front().evaluator->plan(),
                                    group_.rank());
    for (Running& running : running_) {
      const bool ran = running.prepared.failure.empty();
      EvalResult result = ran ? running.evaluator->finish() : running.evaluator->no_result(running.mode);
      result.mode = running.name;
      result.settings = running.prepared.settings;
      if (ran && !result.is_finite()) comparison.failures.push_back(problem_of(running));
      if (running.mode == EvalMode::kSlow && !comparison.reference)
        comparison.reference = comparison.results.size();
      surroundings.add_to(result);
      comparison.results.push_back(std::move(result));
    }
  }

  static std::string problem_of(const Running& running) {
    const DynamicEvaluationConfig& d = running.prepared.dynamic.config;
    const std::string why = traits_of(running.mode).adapts ? cat(" (", d.rule, " with the learning rate ",
                                                                 d.learning_rate, " diverges on this text)")
                                                           : std::string();
    return cat(running.name, ": its loss is not finite", why);
  }

  ComparisonOptions options_;
  Inputs& inputs_;
  Communicator& group_;
  std::vector<Running> running_;
};

}  // namespace

std::string result_name(EvalMode mode, const Carry& carry, bool is_only_carry) {
  std::string name = name_of(mode);
  const bool streams = carry.scope == Carry::Scope::kStream;
  if (streams && (carry.tokens > 0 || !is_only_carry)) name += "-stream";
  return carry.tokens > 0 ? cat(name, "-", carry.tokens) : name;
}

Comparison compare(const ComparisonOptions& options, Communicator& group) {
  Comparison comparison;
  std::optional<Inputs> opened;
  on_all_ranks(group, [&] { opened.emplace(open_inputs(options, &comparison.notices)); });
  Inputs& inputs = *opened;
  require_same_facts(group, "what is evaluated", facts_of(inputs),
                     "(the ranks would add up losses of different texts or models). Give all ranks the same "
                     "files.");
  ComparisonOptions resolved = options;
  resolved.eval.keep_tokens = true;
  if (resolved.eval.reading.context == 0) resolved.eval.reading.context = inputs.model.config.model.context;
  for (const Carry& carry : inputs.carries) check_carry(carry, resolved.eval.reading.context);
  const ReadingPlan plan(inputs.texts.data, resolved.eval.reading);
  for (const Entry& entry : entries_of(inputs.modes, inputs.carries)) {
    const ModelConfig& model = inputs.model.config.model;
    check_positions(model, plan, entry.mode, entry.carry, options.dynamic);
    const std::optional<ReadingOptions> tuning = tuning_reading(resolved, entry.mode);
    if (!tuning) continue;
    const Split& tune = *inputs.texts.tune;
    check_positions(model, ReadingPlan(tune, *tuning), entry.mode, entry.carry, options.dynamic,
                    cat(" of '", tune.path(), "/", tune.name(), "', which it is tuned on,"));
  }
  if (inputs.reference)
    check_positions(inputs.reference->config.model, plan, EvalMode::kSlow, {}, options.dynamic);
  Comparing(resolved, inputs, group).run(comparison);
  for (const std::string& problem : speed_problems(comparison.results, comparison.static_result()))
    comparison.notices.push_back(problem);
  const ReadingOptions& reading = plan.options();
  comparison.about = {
      {"checkpoint", inputs.model.info.path},
      {"data", options.data},
      {"split", inputs.texts.data.name()},
      {"text_hash", content_hash(inputs.texts.data)},
      {"tokenizer", to_json(identity_of(*inputs.model.tokenizer))},
      {"step", inputs.model.info.progress.step},
      {"train_tokens", inputs.model.info.progress.tokens},
      {"context", reading.context},
      {"stride", reading.stride},
      {"batch", resolved.eval.batch},
      {"carry", json_of(inputs.carries)},
      {"streams", resolved.eval.streams},
      {"ranks", group.size()},
      {"host", host_name()},
      {"device", inputs.model.model->device().str()},
      {"intervals",
       {{"share", 0.95}, {"over", "documents"}, {"resamples", kResamples}, {"seed", kResampleSeed}}}};
  return comparison;
}

json to_json(const Comparison& comparison) {
  json j = comparison.about;
  j["static"] = comparison.reference ? json(comparison.static_result()->mode) : json();
  j["notices"] = comparison.notices;
  j["finite"] = comparison.failures.empty();
  j["failures"] = comparison.failures;
  j["speed_is_reliable"] = speed_problems(comparison.results, comparison.static_result()).empty();
  for (const EvalResult& result : comparison.results)
    j["modes"][result.mode] = to_json(result, comparison.static_result());
  if (j["modes"].contains("dynamic")) j["dynamic"] = j["modes"]["dynamic"]["settings"];
  return j;
}

}  // namespace fwl
