// Training: one loop over steps, the same on every rank and device. Every rank computes its share of each
// global batch (step_gradient.h); gradients are summed, so any layout computes the same step.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "checkpoints/checkpoint.h"
#include "core/model/language_model.h"
#include "data/loader.h"
#include "launch/batch_feed.h"
#include "launch/checkpointing.h"
#include "launch/rescue.h"
#include "launch/resume_check.h"
#include "launch/run_config.h"
#include "launch/run_lock.h"
#include "launch/run_log.h"
#include "launch/training_step.h"
#include "parallel/mesh.h"
#include "parallel/texts.h"

namespace fwl {

class Trainer {
 public:
  // Collective over the world. Opens the data, builds the model, prepares the run's folder and resumes if
  // asked to; `changes` says whether a checkpoint of another config may be used. Throws ConfigError,
  // DataError, CommError; Interrupted on all ranks when a stop signal came before the first step.
  explicit Trainer(RunConfig config, ConfigChanges changes = ConfigChanges::kRefuse);
  ~Trainer();

  // Collective over the world. Trains to train.steps, with log lines and checkpoints. Throws, on all ranks,
  // Interrupted, after saving, when a signal or train.max_seconds ended it early; DataError when the last
  // checkpoint cannot be written; CheckFailed when training has diverged: the loss, a gradient or the weights
  // are not finite at its end, or were not for train.max_skipped steps. No checkpoint is written of such
  // weights.
  void run();

  LanguageModel& model() { return step_->model(); }
  const TrainingProgress& progress() const { return progress_; }
  bool is_first_rank() const { return mesh_->is_first_rank(); }
  const RunConfig& config() const { return config_; }
  // The newest checkpoint; empty when there is none.
  std::string newest_checkpoint() const;
  // What a user may do with the trained model, as a command line.
  std::string next_command() const;

 private:
  // A step that the device may still be at.
  struct QueuedStep {
    int64_t number;
    double tokens, learning_rate;
    StepOutcome outcome;
    uint64_t order_hash;  // of all samples up to its end
  };

  void open_data();
  void check_run_folder();
  void check_whose_folder();
  void settle_config();
  Facts facts_of_data() const;
  void end_before_training();
  void prepare_run_folder();
  int64_t checkpoint_bytes();
  void check_room();
  void resume(ConfigChanges changes);
  void continue_order(const CheckpointInfo& info);
  OrderAnchor anchor_here() const;
  void load(CheckpointReader& reader);
  QueuedStep queue_step();
  void finish_step(const QueuedStep& step);
  void count_skip(const QueuedStep& step, const StepOutcome::Numbers& numbers, double loss);
  void log_interval(double interval_s, int64_t interval_tokens);
  std::string wish_to_stop() const;
  bool logs_after(int64_t step) const;
  LossSums sum_over_ranks(const QueuedStep& step, const LossSums& own);
  CheckpointInfo checkpoint_info();
  std::vector<SliceBlock> owned_weights();
  std::vector<SliceBlock> owned_with_streams();
  int64_t stream_position() const;
  void restore_carried_streams(CheckpointReader& reader);
  std::string unsound(const std::vector<SliceBlock>& blocks);
  bool has_diverged() const;
  void save();
  void require_text() const;
  void end_run();
  template <typename E>
  [[noreturn]] void end_early(E error, const std::string& how, const std::string& why);
  void prepare_rescue();
  bool rescues_steps() const;
  std::string advice_after_divergence() const;
  std::optional<Rescue::FinishedStep> newest_finished_step(int64_t after);

  RunConfig config_;
  at::Device device_;
  std::unique_ptr<Mesh> mesh_;
  std::unique_ptr<TrainingData> data_;  // for what is not tokens; the feed's thread has its own
  std::unique_ptr<Loader> loader_;
  std::unique_ptr<TrainingStep> step_;
  std::optional<StateNorms> norms_;  // of the step, when it is logged
  std::unique_ptr<RunLock> lock_;    // first rank only
  bool begins_run_ = false;          // first rank only: what lies in the folder is no part of this run
  std::unique_ptr<BatchFeed> feed_;  // while run() runs
  std::unique_ptr<RunLog> log_;      // first rank only
  std::unique_ptr<Checkpointer> checkpointer_;
  OrderAnchor anchor_;         // at most a stretch of samples_checked_at_resume() and a step behind
  TrainingProgress progress_;  // its sums and counts are those of the finished steps
  std::optional<QueuedStep> queued_;
  // Held while weights, moments or counts are not those of a finished step; a rescue looks at them in
  // between.
  std::timed_mutex state_;
  std::unique_lock<std::timed_mutex> changing_;
  int64_t last_saved_step_ = 0;                             // or loaded
  double last_gradient_norm_ = 0, last_learning_rate_ = 0;  // of the last finished step
  int64_t tokens_before_ = 0;                               // when run() began
  double labels_read_ = 0;  // over all ranks since run() began: those that count
  bool is_last_loss_finite_ = true;
  std::string unsound_;     // why the last save was not begun; empty when it was. The same on all ranks
  std::string stopped_by_;  // this rank's own wish
  bool stop_ = false;       // some rank wants to end early; the same on all ranks
  double constructed_at_s_ = 0;
  double started_at_s_ = 0, waited_before_s_ = 0;
  std::unique_ptr<Rescue> rescue_;  // last: its thread uses the others
};

}  // namespace fwl
