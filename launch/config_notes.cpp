#include "launch/config_notes.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <set>

#include "core/base/error.h"
#include "core/optim/schedule.h"
#include "launch/interval_times.h"

namespace fwl {
namespace {

// Keys that have no effect under `reason`.
struct Idle {
  bool holds;
  std::string reason;
  std::vector<std::string> keys;  // a section by its name with a dot at the end
  std::vector<std::string> except = {};
};

// Written by the program itself: a config file holds what it wrote, and what the user sets is overwritten.
constexpr const char* kOwnKey = "run.id";

std::vector<Idle> idle_keys(const RunConfig& c) {
  const FastWeightConfig& f = c.model.fast_weight;
  const std::string section = "model.fast_weight.";
  return {
      {!f.has_block(), section + "update=absent", {section}, {section + "update"}},
      {f.has_block() && !f.learns(),
       section + "update=none",
       {section},
       {section + "update", section + "width", section + "residual", section + "input_norm"}},
      {!f.learns(), section + "update=" + f.update, {"train.optimizer.step_size_rate_factor"}},
      {f.learns() && !f.second_order, section + "second_order=false", {section + "hessian_threshold"}},
      {f.learns() && f.decay_heads == 1, section + "decay_heads=1", {section + "decay_init_slowest"}},
      {f.learns() && f.decay_init >= 1, section + "decay_init=1", {section + "decay_max"}},
      {c.model.positions == "rotary", "model.positions=rotary", {"model.max_positions"}},
      {c.model.positions == "learned", "model.positions=learned", {"model.rotary_base"}},
      {c.model.window >= c.model.context && !c.train.stream,
       cat("model.context=", c.model.context, ", which is no longer,"),
       {"model.window"}},
      {c.checkpoints.keep == 0, "checkpoints.keep=0", {"checkpoints.keep_every"}},
      {c.parallel.sequence == 1,
       "parallel.sequence=1",
       {"parallel.attention", "parallel.state_exchange", "parallel.state_wire"}},
      {c.parallel.sequence != 1 && c.train.dtype == "fp64", "train.dtype=fp64", {"parallel.state_wire"}},
      {c.train.dtype == "fp64", "train.dtype=fp64", {"parallel.gradient_wire"}},
      {c.train.log_every > kTimedSteps,
       cat("train.log_every=", c.train.log_every, " (above ", kTimedSteps, ")"),
       {"parallel.timing"}},
  };
}

bool covers(const Idle& idle, const std::string& path) {
  const auto names = [&](const std::string& key) {
    return key.back() == '.' ? path.starts_with(key) : path == key;
  };
  return std::any_of(idle.keys.begin(), idle.keys.end(), names) &&
         std::none_of(idle.except.begin(), idle.except.end(), names);
}

std::string key_of(const std::string& setting) {
  return setting.substr(0, setting.find('='));
}

void add_doubled(const std::vector<std::string>& settings, std::vector<std::string>* notes) {
  std::map<std::string, std::vector<std::string>> values;
  for (const std::string& setting : settings)
    values[key_of(setting)].push_back(setting.substr(key_of(setting).size() + 1));
  for (const auto& [key, given] : values)
    if (given.size() > 1)
      notes->push_back(
          cat("--set ", key, " is given ", given.size(), " times: the last one counts, ", given.back()));
}

void add_own_key(const std::set<std::string>& set, std::vector<std::string>* notes) {
  if (set.count(kOwnKey) == 0) return;
  notes->push_back(cat("without effect: --set ", kOwnKey, " (each run gets an id of its own, and keeps it)"));
}

void add_warm_up(const TrainConfig& train, std::vector<std::string>* notes) {
  if (train.warmup_steps < train.steps || train.warmup_steps == 0) return;
  char rate[32];
  std::snprintf(rate, sizeof rate, "%.3g", learning_rate_at(train.schedule(), train.steps - 1));
  notes->push_back(cat("train.warmup_steps = ", train.warmup_steps, " is not below train.steps = ",
                       train.steps, ": the warm-up is the whole run, which ends at a learning rate of ", rate,
                       " and never decays. Lower train.warmup_steps, or train longer."));
}

}  // namespace

std::vector<std::string> notes_on(RunConfig config, const std::vector<std::string>& settings) {
  std::vector<std::string> notes;
  add_doubled(settings, &notes);
  add_warm_up(config.train, &notes);
  std::set<std::string> set;
  for (const std::string& setting : settings) set.insert(key_of(setting));
  add_own_key(set, &notes);
  RunConfig defaults;
  const FieldList now = fields_of(config), before = fields_of(defaults);
  for (const Idle& idle : idle_keys(config)) {
    if (!idle.holds) continue;
    std::string keys;
    for (size_t i = 0; i < now.fields().size(); ++i) {
      const std::string& path = now.fields()[i].path;
      const bool given = set.count(path) > 0 || value_text(now.fields()[i]) != value_text(before.fields()[i]);
      if (given && covers(idle, path))
        keys += cat(keys.empty() ? "" : ", ", path, "=", value_text(now.fields()[i]));
    }
    if (!keys.empty()) notes.push_back(cat("without effect under ", idle.reason, ": ", keys));
  }
  return notes;
}

}  // namespace fwl
