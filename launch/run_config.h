// The whole configuration of a run: one YAML file, `--set a.b=c`, `--print-config`. The resolved form is
// stored in the run's folder and in every checkpoint.
#pragma once

#include <string>
#include <vector>

#include "core/base/config.h"
#include "core/model/config.h"
#include "core/optim/adamw.h"
#include "core/optim/schedule.h"
#include "parallel/mesh.h"
#include "parallel/sharded_optimizer.h"
#include "parallel/sharded_sequence.h"

namespace fwl {

struct TrainConfig {
  int64_t steps = 1000;
  int64_t global_batch = 8;
  int64_t micro_batch = 0;
  int64_t seed = 1;
  std::string device = "auto";
  std::string dtype = "fp32";
  bool deterministic = false;
  double learning_rate = 1e-3;
  int64_t warmup_steps = 100;
  double learning_rate_floor = 0.1;
  double clip_norm = 1.0;
  AdamWConfig optimizer;
  std::string resume = "none";
  int64_t save_every = 500;
  double max_seconds = 0;
  int64_t log_every = 10;
  int64_t max_skipped = 10;
  bool stream = false;
  bool tensorboard = true;

  void visit_fields(FieldList& list);
  ScheduleConfig schedule() const;
};

struct CheckpointsConfig {
  int64_t keep = 3;
  int64_t keep_every = 0;
  bool asynchronous = true;
  double timeout_s = 3600;

  void visit_fields(FieldList& list);
};

struct ParallelConfig {
  int64_t data = -1;
  int64_t sequence = 1;
  double timeout_s = 600;
  double bucket_mb = 100;
  bool shard_optimizer = false;
  std::string attention = "auto";
  std::string state_exchange = "auto";
  std::string state_wire = "fp32";
  std::string gradient_wire = "fp32";
  bool timing = true;

  void visit_fields(FieldList& list);
  int64_t bucket_bytes() const { return static_cast<int64_t>(bucket_mb * 1024 * 1024); }
  OptimizerSharding sharding() const {
    return shard_optimizer ? OptimizerSharding::kSharded : OptimizerSharding::kReplicated;
  }
};

struct DataConfig {
  std::string path;
  std::string mixture;
  bool skip_bad = false;
  std::string order = "packed";

  void visit_fields(FieldList& list);
};

struct RunConfig {
  std::string run_dir = "runs/default";
  std::string run_id;  // launch/run_identity.h; the program's own
  double lock_wait_s = 300;
  DataConfig data;
  ModelConfig model;
  TrainConfig train;
  CheckpointsConfig checkpoints;
  ParallelConfig parallel;

  void visit_fields(FieldList& list);
};

// Reads the file, applies the settings in order; `~` in paths is expanded and run.dir tidied. Throws
// ConfigError.
RunConfig load_run_config(const std::string& path, const std::vector<std::string>& settings);
// From the YAML text of a checkpoint, which holds every key that its version had; later ones are as before
// there were any.
RunConfig parse_run_config(const std::string& yaml, const std::string& where);
// As it is stored with the run: data sets by their absolute paths, so that the file works from any folder.
RunConfig stored_form(RunConfig config);
// Checks what depends on the number of ranks: layout, batch sizes, lengths. Throws ConfigError naming what
// would fit.
MeshShape layout_of(const RunConfig& config, int ranks);
// The same, and that there is data to train on.
MeshShape validate(const RunConfig& config, int ranks);
ReducerOptions reducer_options_of(const RunConfig& config);
SequenceExchange sequence_exchange_of(const RunConfig& config);

}  // namespace fwl
