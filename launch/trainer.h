// Training: one loop over steps, the same on every rank and device. Every rank computes its share of each
// global batch (step_gradient.h); gradients are summed, so any layout computes the same step.
#pragma once

#include <memory>
#include <string>

#include "checkpoints/checkpoint.h"
#include "core/model/language_model.h"
#include "core/optim/adamw.h"
#include "data/loader.h"
#include "launch/batch_feed.h"
#include "launch/run_config.h"
#include "launch/run_log.h"
#include "launch/step_gradient.h"
#include "parallel/mesh.h"

namespace fwl {

class Trainer {
 public:
  // Collective over the world. Opens the data, builds the model, prepares the run's folder and resumes if
  // asked to. Throws ConfigError, DataError, CommError.
  explicit Trainer(RunConfig config);
  ~Trainer();

  // Collective over the world. Trains to train.steps, with log lines and checkpoints.
  void run();

  LanguageModel& model() { return *model_; }
  const TrainingProgress& progress() const { return progress_; }
  bool is_first_rank() const { return mesh_->is_first_rank(); }

 private:
  struct StepResult {
    double grad_norm = 0;
    double learning_rate = 0;
    bool skipped = false;
  };

  void open_data();
  void prepare_run_folder();
  void resume();
  void load(const std::string& step_dir);
  void require_same_order(const TrainingProgress& progress, const std::string& step_dir) const;
  StepResult train_step();
  void count_skip(const StepResult& result, double loss);
  void log_interval(const StepResult& last, double interval_s, int64_t interval_tokens);
  CarriedStreams carried_streams();
  void restore_carried_streams(const std::string& step_dir);
  void save();

  RunConfig config_;
  at::Device device_;
  std::unique_ptr<Mesh> mesh_;
  std::unique_ptr<TrainingData> data_;  // for what is not tokens; the feed's thread has its own
  std::unique_ptr<Loader> loader_;
  std::unique_ptr<LanguageModel> model_;
  std::unique_ptr<AdamW> optimizer_;
  std::unique_ptr<StepGradient> step_;
  std::unique_ptr<BatchFeed> feed_;  // while run() runs
  std::unique_ptr<RunLog> log_;      // first rank only
  TrainingProgress progress_;
  double started_at_s_ = 0, waited_before_s_ = 0;
};

}  // namespace fwl
