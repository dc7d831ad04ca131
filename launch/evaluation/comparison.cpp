#include "launch/evaluation/comparison.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>

#include "core/base/device.h"
#include "core/base/error.h"
#include "core/base/log.h"
#include "launch/evaluation/breakdown.h"
#include "launch/evaluation/counts.h"
#include "launch/evaluation/tuning.h"
#include "launch/evaluation/untrained.h"
#include "parallel/session.h"

namespace fwl {
namespace {

using nlohmann::json;

// Learning rates that work on models of a few million parameters; --tune finds the right one for another
// model.
double default_rate(const std::string& rule) {
  return rule == "sgd" ? 0.1 : 3e-4;
}

// The split `name` beside the one that is evaluated.
std::string beside(const std::string& data, const char* name) {
  const std::optional<SplitPlace> place = find_split(data);
  return cat(place ? place->dataset_dir : data + "/..", "/", name);
}

std::string training_split(const ComparisonOptions& options) {
  return options.train_data.empty() ? beside(options.data, "train") : options.train_data;
}

bool is_split(const std::string& path) {
  try {
    return Split(path).num_documents() > 0;
  } catch (const DataError&) {
    return false;
  }
}

// Everything that one model's modes share.
class ModelComparison {
 public:
  ModelComparison(const ComparisonOptions& options, LoadedModel& loaded, Communicator& group)
      : options_(options), loaded_(loaded), group_(group) {}

  // What a mode needs besides the model: found on the validation split where it is not given.
  struct Prepared {
    DynamicSetup dynamic;
    std::unique_ptr<LanguageModel> model;  // null: the checkpoint's
    json settings;
  };
  Prepared prepare(EvalMode mode, const Carry& carry) {
    carry_ = carry;
    if (mode == EvalMode::kFastUntrained) return prepare_untrained();
    Prepared prepared = traits_of(mode).adapts ? prepare_dynamic(mode) : Prepared();
    if (traits_of(mode).carries) prepared.settings["carry"] = to_string(carry);
    return prepared;
  }

 private:
  // Nats per token on the tuning documents; infinite when the mode diverges.
  double tuning_loss(LanguageModel& model, EvalMode mode, const DynamicSetup& dynamic) const {
    EvalOptions eval = options_.eval;
    eval.keep_tokens = false;
    eval.carry = carry_;
    eval.reading.max_documents = options_.tune_documents;
    eval.reading.spread = true;
    const Split split(tuning_split());
    const double nats = Evaluator(model, split, eval, group_).run(mode, dynamic).nats_per_token();
    return std::isfinite(nats) ? nats : std::numeric_limits<double>::infinity();
  }

  // --tune, or the split `valid` beside the data.
  std::string tuning_split() const {
    return options_.tune_data.empty() ? beside(options_.data, "valid") : options_.tune_data;
  }

  Tensor mean_square(const std::string& rule, Pass pass) {
    if (rule != "rms") return {};
    Tensor& known = mean_square_[pass == Pass::kFast ? 1 : 0];
    if (!known.defined()) {
      known = gradient_mean_square(*loaded_.model, Split(training_split(options_)),
                                   options_.dynamic.statistics_batches, loaded_.config.train.global_batch,
                                   static_cast<uint64_t>(loaded_.config.train.seed), pass);
    }
    return known;
  }

  static json json_of(const DynamicEvaluationConfig& d) {
    json j = {{"rule", d.rule},
              {"learning_rate", d.learning_rate},
              {"decay", d.decay},
              {"segment", d.segment},
              {"reset", d.reset}};
    if (d.rule == "rms") j["epsilon"] = d.epsilon;
    return j;
  }

  Prepared prepare_dynamic(EvalMode mode) {
    const Pass pass = traits_of(mode).pass;
    Prepared prepared;
    DynamicSetup& best = prepared.dynamic;
    best.config = options_.dynamic;
    best.config.rule = options_.dynamic_rule.value_or("rms");
    best.config.learning_rate = options_.dynamic_learning_rate.value_or(default_rate(best.config.rule));
    best.config.decay = options_.dynamic_decay.value_or(0.0);
    json trials = json::array();
    if (!options_.tune_data.empty()) best = tune_dynamic(mode, best.config, &trials);
    if (options_.tune_data.empty()) best.mean_square = mean_square(best.config.rule, pass);
    prepared.settings = json_of(best.config);
    prepared.settings["tuned"] = !options_.tune_data.empty();
    if (!trials.empty()) prepared.settings["trials"] = trials;
    return prepared;
  }

  // Rule, learning rate and decay, as far as they are not given: for each rule the rate without decay, then
  // decays at that rate.
  DynamicSetup tune_dynamic(EvalMode mode, const DynamicEvaluationConfig& start, json* trials) {
    DynamicSetup best;
    double best_loss = std::numeric_limits<double>::infinity();
    const auto loss_of = [&](const DynamicSetup& setup) {
      const double loss = tuning_loss(*loaded_.model, mode, setup);
      json trial = json_of(setup.config);
      trial["nats_per_token"] = loss;
      trials->push_back(trial);
      log_info(cat("tuning ", name_of(mode), ": ", setup.config.rule, ", learning rate ",
                   setup.config.learning_rate, ", decay ", setup.config.decay, " gives ", loss,
                   " nats per token"));
      if (loss < best_loss) {
        best = setup;
        best_loss = loss;
      }
      return loss;
    };
    const auto rules = options_.dynamic_rule ? std::vector<std::string>{*options_.dynamic_rule}
                                             : std::vector<std::string>{"rms", "sgd"};
    for (const std::string& rule : rules) {
      DynamicSetup setup{start, mean_square(rule, traits_of(mode).pass)};
      setup.config.rule = rule;
      setup.config.learning_rate = options_.dynamic_learning_rate.value_or(default_rate(rule));
      if (options_.dynamic_learning_rate) {
        loss_of(setup);
      } else {
        setup.config.learning_rate = search_scale(setup.config.learning_rate, [&](double rate) {
                                       setup.config.learning_rate = rate;
                                       return loss_of(setup);
                                     }).at;
      }
    }
    require<ConfigError>(std::isfinite(best_loss), "--tune: dynamic evaluation diverges on '",
                         options_.tune_data,
                         "' at every learning rate that was tried. Check the model, or give "
                         "--dynamic-learning-rate.");
    if (!options_.dynamic_decay) {
      DynamicSetup setup = best;
      for (const double decay : {1e-4, 1e-3, 1e-2, 3e-2, 1e-1, 3e-1}) {
        // Above 1e-2 only as long as more decay helps: the best is not at the end of what was tried.
        if (decay > 1e-2 && best.config.decay < setup.config.decay) break;
        setup.config.decay = decay;
        loss_of(setup);
      }
    }
    log_info(cat("tuning ", name_of(mode), ": chose ", best.config.rule, ", learning rate ",
                 best.config.learning_rate, ", decay ", best.config.decay, " (", best_loss,
                 " nats per token)"));
    return best;
  }

  Prepared prepare_untrained() {
    Prepared prepared;
    const std::string type = options_.model.dtype.empty() ? loaded_.config.train.dtype : options_.model.dtype;
    prepared.model = with_fast_weights(*loaded_.model, parse_dtype(type));
    json trials = json::array();
    double step_size = options_.untrained_step_size.value_or(0);
    if (!options_.untrained_step_size) {
      require<ConfigError>(is_split(tuning_split()),
                           "--modes fast-untrained searches its step size on a "
                           "validation split, and '",
                           tuning_split(), "' is none. Give --tune DIR/SPLIT, or --untrained-step-size.");
      const double start = prepared.model->config().fast_weight.step_size_init;
      step_size = search_scale(start, [&](double at) {
                    set_step_size(*prepared.model, at);
                    const double loss = tuning_loss(*prepared.model, EvalMode::kFastUntrained, {});
                    trials.push_back({{"step_size", at}, {"nats_per_token", loss}});
                    log_info(cat("tuning fast-untrained: step size ", at, " / width gives ", loss,
                                 " nats per token"));
                    return loss;
                  }).at;
      log_info(cat("tuning fast-untrained: chose step size ", step_size, " / width"));
    }
    set_step_size(*prepared.model, step_size);
    prepared.settings = {{"step_size", step_size},
                         {"decay", prepared.model->config().fast_weight.decay_init},
                         {"tuned", !options_.untrained_step_size}};
    if (!trials.empty()) prepared.settings["trials"] = trials;
    return prepared;
  }

  const ComparisonOptions& options_;
  LoadedModel& loaded_;
  Communicator& group_;
  Carry carry_;            // of the mode that is prepared
  Tensor mean_square_[2];  // of the slow and of the fast pass's loss
};

std::vector<EvalMode> default_modes(const LanguageModel& model) {
  if (!model.has_fast_weights()) return {EvalMode::kSlow, EvalMode::kDynamic};
  return {EvalMode::kSlow, EvalMode::kFast, EvalMode::kDynamic};
}

// Before anything is computed.
void check_modes(const std::vector<EvalMode>& modes, const LanguageModel& model) {
  for (const EvalMode mode : modes) {
    const bool needs = traits_of(mode).pass == Pass::kFast && mode != EvalMode::kFastUntrained;
    require<ConfigError>(!needs || model.has_fast_weights(), "--modes ", name_of(mode),
                         ": this model has no fast weights (it was trained with "
                         "model.fast_weight.update=none). Leave it out.");
    require<ConfigError>(
        mode != EvalMode::kFastUntrained || !model.has_fast_weights(),
        "--modes fast-untrained: this model was trained with fast weights (the mode adds them "
        "to a control, model.fast_weight.update=none). Give a control, or leave the mode out.");
    require<ConfigError>(
        model.inner_approximation().exact() || !needs || !traits_of(mode).adapts,
        model.inner_approximation().threshold > 0 ? "--inner-threshold" : "--inner-logits fp8",
        " with --modes ", name_of(mode),
        ": its gradient goes through the layer and needs the exact inner gradients. Leave one "
        "of them out.");
    require<ConfigError>(
        mode != EvalMode::kSlowCarried || model.config().window > 0,
        "--modes slow-carried: this model attends to whole windows (model.window=0), so that "
        "no window of attention goes on. Leave it out; --stride gives its windows more "
        "context.");
  }
}

EvalResult static_result(const ComparisonOptions& options, const EvalOptions& eval, const LoadedModel& model,
                         const Split& split, Communicator& group) {
  ModelSource source = options.model;
  source.checkpoint = options.static_checkpoint;
  LoadedModel reference = load_model(source, world().local_rank);
  require<ConfigError>(
      reference.tokenizer->hash() == model.tokenizer->hash(), "--static ", options.static_checkpoint,
      ": its tokenizer is not that of ", options.model.checkpoint,
      " (their losses per token are of different tokens). Give a control that was trained on "
      "the same data set.");
  EvalResult result = Evaluator(*reference.model, split, eval, group).run(EvalMode::kSlow);
  result.mode = "static";
  result.settings = {{"checkpoint", reference.info.path}};
  return result;
}

// What is the same for all modes: words of the documents, and the training split's tokens by id.
struct Surroundings {
  std::vector<double> words;
  std::vector<int64_t> train_counts;  // empty: not counted

  Surroundings(const ComparisonOptions& options, const Split& split, const ReadingPlan& plan, int rank) {
    if (options.words) words = words_of(split, plan.documents());
    if (options.count_tokens == 0 || rank != 0) return;
    if (!is_split(training_split(options))) {
      log_info(cat("losses by frequency in training are left out: '", training_split(options),
                   "' is no split. Give --train-data DIR/SPLIT to have them."));
      return;
    }
    train_counts = token_counts(Split(training_split(options)), options.count_tokens);
    train_counts.resize(static_cast<size_t>(
        std::max<int64_t>(split.vocab_size(), static_cast<int64_t>(train_counts.size()))));
  }
  void add_to(EvalResult& result) const {
    result.words = words;
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

// What was chosen on the very split that is scored makes its numbers better than they are.
std::string tuning_notice(const ComparisonOptions& options) {
  std::error_code ignored;
  if (options.tune_data.empty() || !std::filesystem::equivalent(options.tune_data, options.data, ignored))
    return "";
  return cat("--tune and --data are both '", options.data,
             "': what is tuned on the split that is scored looks better than it is. Tune on another split.");
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

}  // namespace

std::string result_name(EvalMode mode, const Carry& carry, bool is_only_carry) {
  std::string name = name_of(mode);
  const bool streams = carry.scope == Carry::Scope::kStream;
  if (streams && (carry.tokens > 0 || !is_only_carry)) name += "-stream";
  return carry.tokens > 0 ? cat(name, "-", carry.tokens) : name;
}

Comparison compare(const ComparisonOptions& options, Communicator& group) {
  LoadedModel loaded = load_model(options.model, world().local_rank);
  const Split split(options.data);
  EvalOptions eval = options.eval;
  eval.keep_tokens = true;
  if (eval.reading.context == 0) eval.reading.context = loaded.config.model.context;
  const Evaluator evaluator(*loaded.model, split, eval,
                            group);  // bad data is refused before anything is tuned
  if (const std::string kernels = evaluator.describe_kernels(); !kernels.empty()) log_info(kernels);
  const std::vector<Carry> carries = options.carries.empty() ? std::vector<Carry>{{}} : options.carries;
  for (const Carry& carry : carries) check_carry(carry, eval.reading.context);
  const std::vector<EvalMode> modes = options.modes.empty() ? default_modes(*loaded.model) : options.modes;
  check_modes(modes, *loaded.model);

  Comparison comparison;
  if (const std::string notice = tuning_notice(options); !notice.empty())
    comparison.notices.push_back(notice);
  ComparisonOptions resolved = options;
  resolved.eval = eval;
  ModelComparison shared(resolved, loaded, group);
  const Surroundings surroundings(options, split, evaluator.plan(), group.rank());
  const auto add = [&](EvalResult result) {
    surroundings.add_to(result);
    comparison.results.push_back(std::move(result));
  };
  if (!options.static_checkpoint.empty()) {
    add(static_result(options, eval, loaded, split, group));
    comparison.reference = 0;
  }
  for (const Entry& entry : entries_of(modes, carries)) {
    const ModelComparison::Prepared prepared = shared.prepare(entry.mode, entry.carry);
    eval.carry = entry.carry;
    Evaluator running(prepared.model ? *prepared.model : *loaded.model, split, eval, group);
    if (group.size() > 1 && running.waits_for_streams(entry.mode, prepared.dynamic)) {
      const std::string notice = notice_of(entry.name, eval, group.size());
      if (!notice.empty()) comparison.notices.push_back(notice);
      if (!notice.empty()) log_info(notice);
    }
    EvalResult result = running.run(entry.mode, prepared.dynamic);
    result.mode = entry.name;
    result.settings = prepared.settings;
    if (entry.mode == EvalMode::kSlow && !comparison.reference)
      comparison.reference = comparison.results.size();
    add(std::move(result));
  }
  const ReadingOptions& reading = evaluator.plan().options();
  comparison.about = {
      {"checkpoint", loaded.info.path},
      {"data", options.data},
      {"step", loaded.info.progress.step},
      {"train_tokens", loaded.info.progress.tokens},
      {"context", reading.context},
      {"stride", reading.stride},
      {"batch", eval.batch},
      {"carry", json_of(carries)},
      {"streams", eval.streams},
      {"ranks", group.size()},
      {"device", loaded.model->device().str()},
      {"intervals",
       {{"share", 0.95}, {"over", "documents"}, {"resamples", kResamples}, {"seed", kResampleSeed}}}};
  return comparison;
}

json to_json(const Comparison& comparison) {
  json j = comparison.about;
  j["static"] = comparison.reference ? json(comparison.static_result()->mode) : json();
  j["notices"] = comparison.notices;
  for (const EvalResult& result : comparison.results)
    j["modes"][result.mode] = to_json(result, comparison.static_result());
  if (j["modes"].contains("dynamic")) j["dynamic"] = j["modes"]["dynamic"]["settings"];
  return j;
}

}  // namespace fwl
