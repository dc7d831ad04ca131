#include "launch/run_config.h"

#include <functional>
#include <sstream>

#include "core/base/error.h"
#include "core/base/path.h"

namespace fwl {

void TrainConfig::visit_fields(FieldList& list) {
  list.add("steps", steps, "optimizer steps of the whole run (the learning-rate schedule ends there)",
           at_least(1));
  list.add("global_batch", global_batch, "sequences per step over all ranks", at_least(1));
  list.add("micro_batch", micro_batch, "sequences per forward on one rank; 0: the rank's whole share",
           at_least(0));
  list.add("seed", seed, "seed of the initial weights and of the sample order", at_least(0));
  list.add_choice("device", device, {"auto", "cpu", "cuda"}, "auto: a GPU where there is one");
  list.add_choice("dtype", dtype, {"fp64", "fp32", "bf16"},
                  "type of the matrix products; weights and optimizer are fp32 under bf16");
  list.add(
      "deterministic", deterministic,
      "the same bits from the same run on the same device and layout, where a faster algorithm would sum "
      "in another order each time");
  list.add("learning_rate", learning_rate, "peak learning rate", at_least(0));
  list.add("warmup_steps", warmup_steps, "steps of linear warm-up", at_least(0));
  list.add("learning_rate_floor", learning_rate_floor, "end of the cosine, as a fraction of the peak",
           between(0, 1));
  list.add("clip_norm", clip_norm, "largest global norm of the gradients; 0: no clipping", at_least(0));
  list.section("optimizer", optimizer);
  list.add("resume", resume, "none, auto (the run folder's newest good checkpoint), or a checkpoint's path");
  list.add("save_every", save_every, "steps between checkpoints; 0: only at the end", at_least(0));
  list.add("max_seconds", max_seconds,
           "wall-clock limit: save after the step that reaches it and exit with code 75; 0: none",
           at_least(0));
  list.add("log_every", log_every, "steps between log lines", at_least(1));
  list.add("max_skipped", max_skipped,
           "skipped steps in a row (non-finite loss or gradient) that end the run", at_least(1));
  list.add("stream", stream,
           "each row of the batch reads the data in order, and carries fast weights and the attention window "
           "from one sequence to the next");
  list.add("tensorboard", tensorboard, "also write TensorBoard event files into the run's folder");
}

ScheduleConfig TrainConfig::schedule() const {
  return {learning_rate, warmup_steps, steps, learning_rate_floor};
}

void CheckpointsConfig::visit_fields(FieldList& list) {
  list.add("keep", keep, "newest checkpoints to keep; 0: all", at_least(0));
  list.add("keep_every", keep_every, "also keep those whose step this divides; 0: none", at_least(0));
  list.add("asynchronous", asynchronous, "write in a thread while training goes on");
  list.add("timeout_s", timeout_s,
           "seconds that ranks wait for each other around saves and resumes, where disks are slow",
           between(0.1, 1e8));
}

void ParallelConfig::visit_fields(FieldList& list) {
  list.add("data", data, "ranks that read different sequences; -1: all that are left", at_least(-1));
  list.add("sequence", sequence, "ranks that share sequences, each with a chunk; -1: all that are left",
           at_least(-1));
  list.add("timeout_s", timeout_s, "seconds that a collective may take", between(0.1, 1e8));
  list.add(
      "bucket_mb", bucket_mb,
      "MiB of gradients per all-reduce; large ones disturb the backward less, small ones leave less to sum "
      "after it",
      between(0.001, 1e6));
  list.add("shard_optimizer", shard_optimizer,
           "each rank keeps the moments of its share of the weights and updates that share (ZeRO-1)");
  list.add_choice("attention", attention, {"auto", "all_to_all", "all_gather", "halo"},
                  "how attention reaches other ranks' positions; auto: halo with a window, else all_to_all "
                  "where the ranks divide the heads, else all_gather");
  list.add_choice("state_exchange", state_exchange, {"auto", "all_gather", "all_to_all"},
                  "how fast-weight states reach later ranks; auto: by size and ranks");
  list.add_choice("state_wire", state_wire, {"fp32", "bf16"},
                  "type of fast-weight states on their way between ranks (fp64 runs: always fp64)");
  list.add_choice("gradient_wire", gradient_wire, {"fp32", "bf16"},
                  "type of gradients on their way between ranks (fp64 runs: always fp64)");
  list.add(
      "timing", timing,
      "time transfers: communication share, memory and late ranks in the log (with train.log_every <= 100)");
}

void DataConfig::visit_fields(FieldList& list) {
  list.add("path", path, "data set made by `fwl tokenize`");
  list.add("mixture", mixture,
           "DIR=WEIGHT,DIR=WEIGHT: several data sets, by share of the samples; instead of path");
  list.add("skip_bad", skip_bad, "leave damaged documents out and go on, instead of stopping");
  list.add_choice(
      "order", order, {"packed", "documents"},
      "what a stream (train.stream) reads: the data set's text as it lies there, or whole documents "
      "in an order that the seed picks, none sharing a sequence with another");
}

namespace {

// run.dir stands in a section of its own.
struct RunSection {
  std::string& dir;
  std::string& id;
  double& lock_wait_s;
  void visit_fields(FieldList& list) {
    list.add("dir", dir, "folder of the run: config, log and checkpoints");
    list.add("id", id, "written by the program: which run a checkpoint is of");
    list.add("lock_wait_s", lock_wait_s,
             "seconds to wait while another process uses run.dir; then exit code 75 (try again)",
             between(0, 1e8));
  }
};

// "DIR=WEIGHT,DIR=WEIGHT" with each DIR by `change`; what is no such list stays for those who read it to
// refuse.
std::string with_folders(const std::string& mixture,
                         const std::function<std::string(const std::string&)>& change) {
  std::string changed;
  std::istringstream items(mixture);
  for (std::string item; std::getline(items, item, ',');) {
    const size_t equals = std::min(item.rfind('='), item.size());
    changed += (changed.empty() ? "" : ",") + change(item.substr(0, equals)) + item.substr(equals);
  }
  return changed;
}

void resolve_paths(RunConfig* config) {
  config->run_dir = tidy_path(expand_home(config->run_dir));
  config->data.path = expand_home(config->data.path);
  config->data.mixture = with_folders(config->data.mixture, expand_home);
  config->train.resume = expand_home(config->train.resume);
}

}  // namespace

void RunConfig::visit_fields(FieldList& list) {
  RunSection run{run_dir, run_id, lock_wait_s};
  list.section("run", run);
  list.section("data", data);
  list.section("model", model);
  list.section("train", train);
  list.section("checkpoints", checkpoints);
  list.section("parallel", parallel);
}

RunConfig load_run_config(const std::string& path, const std::vector<std::string>& settings) {
  RunConfig config;
  const FieldList fields = fields_of(config);
  apply_yaml_file(fields, path);
  for (const std::string& setting : settings) apply_setting(fields, setting);
  resolve_paths(&config);
  validate(config.model);
  return config;
}

RunConfig stored_form(RunConfig config) {
  config.data.path = absolute_path(config.data.path);
  config.data.mixture = with_folders(config.data.mixture, absolute_path);
  return config;
}

RunConfig parse_run_config(const std::string& yaml, const std::string& where) {
  RunConfig config;
  // What a config from before there were these keys meant.
  config.model.fast_weight.decay_max = 1;
  config.model.fast_weight.fast_layers = "both";
  config.model.fast_weight.hessian_threshold = 0;
  config.model.fast_weight.step_size_init = 0.25;
  config.model.fast_weight.key_norm = "none";
  config.model.fast_weight.write_gate = "none";
  apply_yaml(fields_of(config), yaml, where);
  return config;
}

MeshShape layout_of(const RunConfig& c, int ranks) {
  const MeshShape mesh = mesh_shape(c.parallel.data, c.parallel.sequence, ranks);
  const int64_t batch = c.train.global_batch, context = c.model.context;
  const auto next_multiple = [](int64_t value, int64_t of) { return (value + of - 1) / of * of; };
  require<ConfigError>(batch % mesh.data == 0, "train.global_batch = ", batch, " is not divisible by ",
                       mesh.data, " data-parallel ranks (each takes the same number of sequences). Use ",
                       next_multiple(batch, mesh.data), ".");
  require<ConfigError>(context % mesh.sequence == 0, "model.context = ", context, " is not divisible by ",
                       mesh.sequence,
                       " ranks per sequence (each takes the same number of positions; padding would change "
                       "what a token costs and what a stream carries). Use ",
                       context >= mesh.sequence ? cat(context / mesh.sequence * mesh.sequence, " or ") : "",
                       next_multiple(context, mesh.sequence), ".");
  require<ConfigError>(!c.model.document_mask || (mesh.sequence == 1 && !c.train.stream),
                       "model.document_mask with parallel.sequence = ", mesh.sequence,
                       c.train.stream ? " and train.stream" : "",
                       " is not built (the mask covers one whole window). Set model.document_mask=false, or "
                       "parallel.sequence=1 and train.stream=false.");
  if (mesh.sequence > 1)
    choose_attention_algorithm(c.parallel.attention, mesh.sequence, c.model.heads, c.model.window);
  return mesh;
}

MeshShape validate(const RunConfig& c, int ranks) {
  require<ConfigError>(
      c.data.path.empty() != c.data.mixture.empty(), "data.path and data.mixture are ",
      c.data.path.empty() ? "not set" : "both set",
      " (one of them says what to train on). Give --set data.path=DIR, a folder made by `fwl tokenize`.");
  require<ConfigError>(
      c.data.mixture.empty() || !c.train.stream,
      "train.stream with data.mixture is not possible (a stream reads one data set in order). "
      "Set data.path.");
  require<ConfigError>(
      c.data.order == "packed" || (c.train.stream && c.model.fast_weight.document_reset),
      "data.order=documents needs ", c.train.stream ? "model.fast_weight.document_reset" : "train.stream",
      "=true (a document's state goes on in its next sequence, and ends with it). Set it, or "
      "data.order=packed.");
  return layout_of(c, ranks);
}

ReducerOptions reducer_options_of(const RunConfig& c) {
  ReducerOptions options{c.parallel.bucket_bytes(), reduction_for(c.parallel.sharding()), {}};
  if (c.train.dtype != "fp64" && c.parallel.gradient_wire == "bf16") options.wire = at::kBFloat16;
  return options;
}

SequenceExchange sequence_exchange_of(const RunConfig& c) {
  const at::ScalarType wire = c.train.dtype == "fp64"           ? at::kDouble
                              : c.parallel.state_wire == "bf16" ? at::kBFloat16
                                                                : at::kFloat;
  return {c.parallel.attention, c.parallel.state_exchange, wire};
}

}  // namespace fwl
