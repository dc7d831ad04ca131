#include "launch/evaluation/mode_settings.h"

#include <cmath>
#include <limits>

#include "core/base/device.h"
#include "core/base/error.h"
#include "core/base/log.h"
#include "launch/evaluation/tuning.h"
#include "launch/evaluation/untrained.h"

namespace fwl {
namespace {

using nlohmann::json;

// Without --tune, a rate is chosen on so much of the validation split.
constexpr int64_t kRateDocuments = 4, kRateTokens = 2048;  // of each document, from its start

// Where a search begins: rates that work on models of a few million parameters.
double first_rate(const std::string& rule) {
  return rule == "sgd" ? 0.1 : 3e-4;
}

json json_of(const DynamicEvaluationConfig& d) {
  json j = {{"rule", d.rule},
            {"learning_rate", d.learning_rate},
            {"decay", d.decay},
            {"segment", d.segment},
            {"reset", d.reset}};
  if (d.rule == "rms") j["epsilon"] = d.epsilon;
  return j;
}

std::string to_string(const DynamicEvaluationConfig& d) {
  return cat(d.rule, ", learning rate ", d.learning_rate, ", decay ", d.decay);
}

}  // namespace

class ModeSettings::Trials {
 public:
  Trials(const ModeSettings& settings, EvalMode mode, Search search)
      : settings_(settings), mode_(mode), search_(search) {}
  double measure(const DynamicSetup& setup) {
    const double loss = settings_.tuning_loss(*settings_.loaded_.model, mode_, setup, search_);
    json trial = json_of(setup.config);
    trial["nats_per_token"] = std::isfinite(loss) ? json(loss) : json();
    list_.push_back(trial);
    log_info(
        cat("tuning ", name_of(mode_), ": ", to_string(setup.config), " gives ",
            std::isfinite(loss) ? cat(loss, " nats per token") : std::string("a loss that is not finite")));
    if (loss < best_loss_) {
      best_ = setup;
      best_loss_ = loss;
    }
    return loss;
  }
  bool found() const { return std::isfinite(best_loss_); }
  const DynamicSetup& best() const { return best_; }
  double best_loss() const { return best_loss_; }
  const json& list() const { return list_; }

 private:
  const ModeSettings& settings_;
  EvalMode mode_;
  Search search_;
  DynamicSetup best_;
  double best_loss_ = std::numeric_limits<double>::infinity();
  json list_ = json::array();
};

PreparedMode ModeSettings::prepare(EvalMode mode, const Carry& carry) {
  carry_ = carry;
  if (mode == EvalMode::kFastUntrained) return prepare_untrained();
  PreparedMode prepared = traits_of(mode).adapts ? prepare_dynamic(mode) : PreparedMode();
  if (traits_of(mode).carries) prepared.settings["carry"] = to_string(carry);
  return prepared;
}

ModeSettings::Search ModeSettings::search_of(const ComparisonOptions& options) {
  if (!options.tune_data.empty()) return Search::kAll;
  return options.dynamic_learning_rate ? Search::kNone : Search::kRate;
}

ReadingOptions ModeSettings::reading_of(const ComparisonOptions& options, Search search) {
  ReadingOptions reading = options.eval.reading;
  reading.max_documents = options.tune_documents;
  reading.spread = true;
  if (search != Search::kRate) return reading;
  if (options.tune_documents == 0) reading.max_documents = kRateDocuments;
  reading.max_predictions = kRateTokens;
  return reading;
}

std::optional<ReadingOptions> tuning_reading(const ComparisonOptions& options, EvalMode mode) {
  using Search = ModeSettings::Search;
  const bool is_untrained = mode == EvalMode::kFastUntrained;
  const Search search = is_untrained ? (options.untrained_step_size ? Search::kNone : Search::kAll)
                        : traits_of(mode).adapts ? ModeSettings::search_of(options)
                                                 : Search::kNone;
  if (search == Search::kNone) return {};
  return ModeSettings::reading_of(options, search);
}

// Nats per token on the tuning documents; infinite when the mode diverges.
double ModeSettings::tuning_loss(LanguageModel& model, EvalMode mode, const DynamicSetup& dynamic,
                                 Search search) const {
  EvalOptions eval = options_.eval;
  eval.keep_tokens = false;
  eval.carry = carry_;
  eval.reading = reading_of(options_, search);
  const double nats = Evaluator(model, *texts_.tune, eval, group_).run(mode, dynamic).nats_per_token();
  return std::isfinite(nats) ? nats : std::numeric_limits<double>::infinity();
}

Tensor ModeSettings::mean_square(const std::string& rule, Pass pass) {
  if (rule != "rms") return {};
  Tensor& known = mean_square_[pass == Pass::kFast ? 1 : 0];
  if (!known.defined()) {
    known = gradient_mean_square(*loaded_.model, *texts_.train, options_.dynamic.statistics_batches,
                                 loaded_.config.train.global_batch,
                                 static_cast<uint64_t>(loaded_.config.train.seed), pass);
  }
  return known;
}

PreparedMode ModeSettings::prepare_dynamic(EvalMode mode) {
  DynamicEvaluationConfig start = options_.dynamic;
  start.rule = options_.dynamic_rule.value_or(texts_.train ? "rms" : "sgd");
  start.learning_rate = options_.dynamic_learning_rate.value_or(first_rate(start.rule));
  start.decay = options_.dynamic_decay.value_or(0.0);
  PreparedMode prepared;
  prepared.dynamic = {start, {}};
  Trials trials(*this, mode, search());
  if (search() == Search::kNone) prepared.dynamic.mean_square = mean_square(start.rule, traits_of(mode).pass);
  if (search() == Search::kRate) tune_rate(mode, start, trials);
  if (search() == Search::kAll) tune_all(mode, start, trials);
  if (search() != Search::kNone) {
    const std::string place = cat("'", texts_.tune->path(), "/", texts_.tune->name(), "'");
    if (trials.found()) {
      prepared.dynamic = trials.best();
      log_info(cat("tuning ", name_of(mode), ": chose ", to_string(trials.best().config), " (",
                   trials.best_loss(), " nats per token on ", place, ")"));
    } else {
      prepared.failure = cat("it diverges on ", place, " at every learning rate that was tried, from ",
                             start.rule, " ", start.learning_rate, " on");
    }
  }
  prepared.settings = json_of(prepared.dynamic.config);
  prepared.settings["tuned"] = search() != Search::kNone;
  if (search() != Search::kNone)
    prepared.settings["tuned_on"] = texts_.tune->path() + "/" + texts_.tune->name();
  if (!trials.list().empty()) prepared.settings["trials"] = trials.list();
  return prepared;
}

// The learning rate alone, in few steps.
void ModeSettings::tune_rate(EvalMode mode, const DynamicEvaluationConfig& start, Trials& trials) {
  DynamicSetup setup{start, mean_square(start.rule, traits_of(mode).pass)};
  search_scale_roughly(start.learning_rate, [&](double rate) {
    setup.config.learning_rate = rate;
    return trials.measure(setup);
  });
}

// Rule, learning rate and decay, as far as they are not given: for each rule the rate without decay, then
// decays at that rate.
void ModeSettings::tune_all(EvalMode mode, const DynamicEvaluationConfig& start, Trials& trials) {
  const auto rules = options_.dynamic_rule ? std::vector<std::string>{*options_.dynamic_rule}
                                           : std::vector<std::string>{"rms", "sgd"};
  for (const std::string& rule : rules) {
    if (rule == "rms" && !texts_.train) continue;
    DynamicSetup setup{start, mean_square(rule, traits_of(mode).pass)};
    setup.config.rule = rule;
    setup.config.learning_rate = options_.dynamic_learning_rate.value_or(first_rate(rule));
    if (options_.dynamic_learning_rate) {
      trials.measure(setup);
    } else {
      search_scale(setup.config.learning_rate, [&](double rate) {
        setup.config.learning_rate = rate;
        return trials.measure(setup);
      });
    }
  }
  if (options_.dynamic_decay || !trials.found()) return;
  DynamicSetup setup = trials.best();
  for (const double decay : {1e-4, 1e-3, 1e-2, 3e-2, 1e-1, 3e-1}) {
    // Above 1e-2 only as long as more decay helps: the best is not at the end of what was tried.
    if (decay > 1e-2 && trials.best().config.decay < setup.config.decay) break;
    setup.config.decay = decay;
    trials.measure(setup);
  }
}

PreparedMode ModeSettings::prepare_untrained() {
  PreparedMode prepared;
  const std::string type = options_.model.dtype.empty() ? loaded_.config.train.dtype : options_.model.dtype;
  prepared.model = with_fast_weights(*loaded_.model, parse_dtype(type));
  json trials = json::array();
  double step_size = options_.untrained_step_size.value_or(0);
  if (!options_.untrained_step_size) {
    const double start = prepared.model->config().fast_weight.step_size_init;
    const Minimum best = search_scale(start, [&](double at) {
      set_step_size(*prepared.model, at);
      const double loss = tuning_loss(*prepared.model, EvalMode::kFastUntrained, {}, Search::kAll);
      trials.push_back({{"step_size", at}, {"nats_per_token", std::isfinite(loss) ? json(loss) : json()}});
      log_info(cat("tuning fast-untrained: step size ", at, " / width gives ", loss, " nats per token"));
      return loss;
    });
    step_size = best.at;
    log_info(cat("tuning fast-untrained: chose step size ", step_size, " / width"));
    if (!std::isfinite(best.value))
      prepared.failure = cat("it diverges at every step size that was tried, from ", start, " on");
  }
  set_step_size(*prepared.model, step_size);
  prepared.settings = {{"step_size", step_size},
                       {"decay", prepared.model->config().fast_weight.decay_init},
                       {"tuned", !options_.untrained_step_size}};
  if (!trials.empty()) prepared.settings["trials"] = trials;
  return prepared;
}

}  // namespace fwl
