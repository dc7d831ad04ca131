#include "launch/resume_check.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <string_view>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/optim/schedule.h"

namespace fwl {
namespace {

bool begins_with_one_of(std::string_view path, std::initializer_list<std::string_view> prefixes) {
  return std::any_of(prefixes.begin(), prefixes.end(),
                     [&](std::string_view prefix) { return path.substr(0, prefix.size()) == prefix; });
}

bool is_one_of(std::string_view path, std::initializer_list<std::string_view> paths) {
  return std::find(paths.begin(), paths.end(), path) != paths.end();
}

ChangeKind kind_of(const std::string& path, const std::string& before, const std::string& after) {
  // 1 means no decay, and no weights for it.
  if (path == "model.fast_weight.decay_init" && (before == "1") != (after == "1"))
    return ChangeKind::kFunction;
  // Values at the start of training.
  if (is_one_of(path, {"model.fast_weight.step_size_init", "model.fast_weight.decay_init",
                       "model.fast_weight.decay_init_slowest"}))
    return ChangeKind::kFree;
  // A cut of the work, a weight of the training loss, and a part of its gradient: the function stays.
  if (is_one_of(path, {"model.fast_weight.chunk", "model.fast_weight.slow_loss_weight",
                       "model.fast_weight.hessian_threshold"}))
    return ChangeKind::kAllowed;
  if (begins_with_one_of(path, {"model."})) return ChangeKind::kFunction;
  // Streams carry state that a checkpoint without them does not have.
  if (path == "train.stream") return after == "true" ? ChangeKind::kFunction : ChangeKind::kAllowed;
  // Weights are stored as float64 under fp64, as float32 otherwise.
  if (path == "train.dtype")
    return before == "fp64" || after == "fp64" ? ChangeKind::kFunction : ChangeKind::kAllowed;
  if (is_one_of(path, {"parallel.state_wire", "parallel.gradient_wire"})) return ChangeKind::kAllowed;
  if (begins_with_one_of(path, {"run.", "checkpoints.", "parallel."})) return ChangeKind::kFree;
  if (is_one_of(path, {"data.path", "train.resume", "train.device", "train.save_every", "train.max_seconds",
                       "train.log_every", "train.max_skipped", "train.tensorboard", "train.micro_batch"}))
    return ChangeKind::kFree;
  return ChangeKind::kAllowed;
}

const char* verdict(ChangeKind kind) {
  switch (kind) {
    case ChangeKind::kFree:
      return "";
    case ChangeKind::kAllowed:
      return " (needs --allow-changes)";
    case ChangeKind::kFunction:
      return " (changes the function: refused)";
  }
  return "";
}

RunConfig stored_config(const CheckpointInfo& info) {
  try {
    return parse_run_config(info.config_yaml, info.path + "/manifest.json: config");
  } catch (const ConfigError& error) {
    throw DataError(cat(error.what(), " (the checkpoint's config is from another version of fwl)"));
  }
}

void add_data_changes(const CheckpointInfo& info, const RunConfig& stored, const RunConfig& now,
                      const DataIdentity& data, std::vector<ConfigChange>* changes) {
  const auto add = [&](const char* text, ChangeKind kind) { changes->push_back({cat(text), kind}); };
  if (info.tokenizer_kind != data.tokenizer_kind || info.tokenizer_bytes != data.tokenizer_bytes)
    add("tokenizer: the data set's is another one than the checkpoint's", ChangeKind::kFunction);
  // The hash covers seed, context and streams too; a change of those is listed by its key.
  const bool explained = stored.train.seed != now.train.seed || stored.model.context != now.model.context ||
                         stored.train.stream != now.train.stream || stored.data.order != now.data.order ||
                         (now.train.stream && stored.train.global_batch != now.train.global_batch);
  const bool has_read = info.progress.samples > 0;  // an imported model has not
  if (has_read && info.data.sequence_hash != data.sequence_hash && !explained)
    add("data: other tokens than those that the run has read (its shards' checksums differ)",
        ChangeKind::kAllowed);
}

std::string list_of(const std::vector<ConfigChange>& changes) {
  std::string text;
  for (const ConfigChange& change : changes) text += cat("\n  ", change.text, verdict(change.kind));
  return text;
}

// How far the schedule moves at the step that comes next; empty when it stays.
std::string rate_move(const CheckpointInfo& info, const RunConfig& stored, const RunConfig& now) {
  const double before = learning_rate_at(stored.train.schedule(), info.progress.step);
  const double after = learning_rate_at(now.train.schedule(), info.progress.step);
  if (before == after) return {};
  char text[160];
  std::snprintf(text, sizeof text, "\n  The learning rate of the next step, %lld, moves from %.6g to %.6g.",
                static_cast<long long>(info.progress.step + 1), before, after);
  return text;
}

bool trains_decays(const ModelConfig& model) {
  return model.fast_weight.learns() && model.fast_weight.decay_init < 1;
}

// With the bound as a number: by itself it follows from other keys.
void resolve_bound(ModelConfig* model) {
  if (trains_decays(*model)) model->fast_weight.decay_max = largest_decay(*model);
}

}  // namespace

void settle_decays(const std::string& stored, RunConfig* now) {
  FastWeightConfig& kept = now->model.fast_weight;
  ModelConfig before;
  before.fast_weight.update = "none";
  try {
    if (!stored.empty()) before = parse_run_config(stored, "the checkpoint's config").model;
  } catch (const ConfigError&) {
    // check_resume() says it, with the checkpoint's name.
  }
  if (trains_decays(before) && trains_decays(now->model)) {
    const auto keep = [](const char* key, double was, double* value) {
      if (*value != was)
        log_info(
            cat("model.fast_weight.", key, " = ", *value, " is without effect: the run began with ", was));
      *value = was;
    };
    keep("decay_init", before.fast_weight.decay_init, &kept.decay_init);
    keep("decay_init_slowest", before.fast_weight.decay_init_slowest, &kept.decay_init_slowest);
    if (kept.decay_max == 0) kept.decay_max = largest_decay(before);
  }
  resolve_bound(&now->model);
}

std::vector<ConfigChange> config_changes(RunConfig stored, RunConfig now) {
  for (RunConfig* config : {&stored, &now}) resolve_bound(&config->model);
  now = stored_form(std::move(now));
  now.run_id = stored.run_id;  // no setting
  std::vector<ConfigChange> changes;
  const FieldList before = fields_of(stored), after = fields_of(now);
  for (size_t i = 0; i < before.fields().size(); ++i) {
    const std::string& path = before.fields()[i].path;
    const std::string left = value_text(before.fields()[i]), right = value_text(after.fields()[i]);
    if (left != right) changes.push_back({cat(path, ": ", left, " -> ", right), kind_of(path, left, right)});
  }
  return changes;
}

void check_resume(const CheckpointInfo& info, const RunConfig& now, const DataIdentity& data,
                  ConfigChanges allowed) {
  const RunConfig stored = stored_config(info);
  std::vector<ConfigChange> changes = config_changes(stored, now);
  add_data_changes(info, stored, now, data, &changes);
  if (changes.empty()) return;
  const auto has = [&](ChangeKind kind) {
    return std::any_of(changes.begin(), changes.end(), [&](const ConfigChange& c) { return c.kind == kind; });
  };
  const std::string heading = cat("'", info.path, "' was written with another config:", list_of(changes),
                                  rate_move(info, stored, now), "\n");
  require<ConfigError>(
      !has(ChangeKind::kFunction), heading,
      "The weights would compute something else. Use the config that they were trained with, or "
      "start a new run in another run.dir.");
  require<ConfigError>(!has(ChangeKind::kAllowed) || allowed == ConfigChanges::kAllow, heading,
                       "The run would go on differently from there. If that is meant, add --allow-changes.");
  log_info(heading + "Going on with the new values.");
}

}  // namespace fwl
