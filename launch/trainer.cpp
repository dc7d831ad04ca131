#include "launch/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "core/base/clock.h"
#include "core/base/device.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/log.h"
#include "launch/batches.h"
#include "launch/data_facts.h"
#include "launch/interval_times.h"
#include "launch/resume.h"
#include "launch/run_identity.h"
#include "launch/run_room.h"
#include "launch/signals.h"
#include "launch/tensorboard/step_sizes.h"
#include "parallel/session.h"

namespace fwl {

Trainer::Trainer(RunConfig config, ConfigChanges changes)
    : config_(std::move(config)), device_(at::kCPU), changing_(state_), constructed_at_s_(now_s()) {
  const Placement& place = world();
  if (config_.train.deterministic) make_deterministic();
  const MeshShape shape = validate(config_, place.size);
  device_ = choose_device(config_.train.device, place.local_rank);
  mesh_ = std::make_unique<Mesh>(shape, device_, config_.parallel.timeout_s);
  install_stop_signals();  // again: MPI and CUDA install handlers of their own
  require_same_text(mesh_->host(), "the run's config", to_yaml(fields_of(config_)));
  end_before_training();
  lock_ = wait_for_run_lock(config_.run_dir, config_.lock_wait_s, mesh_->host());
  check_run_folder();
  on_all_ranks(mesh_->host(), [&] { open_data(); });
  require_same_data(mesh_->host(), facts_of_data());
  settle_config();
  end_before_training();
  step_ = std::make_unique<TrainingStep>(config_, *mesh_, device_);
  end_before_training();
  resume(changes);
  on_all_ranks(mesh_->host(), [&] { check_room(); });
  end_before_training();
  prepare_run_folder();
  checkpointer_ = std::make_unique<Checkpointer>(
      config_.run_dir + "/checkpoints", Retention{config_.checkpoints.keep, config_.checkpoints.keep_every},
      config_.checkpoints.asynchronous ? Checkpointer::Mode::kAsynchronous : Checkpointer::Mode::kSynchronous,
      mesh_->host(), checkpoint_bytes(), config_.checkpoints.timeout_s);
  if (config_.train.save_every > 0) checkpointer_->reserve(owned_weights());
  log_info(cat("training ", step_->model().parameters().count(), " parameters on ", place.size,
               " rank(s), layout ", shape.to_string(), " (data x sequence), ", device_.str(), ", ",
               config_.train.dtype, ", gradients over ", mesh_->world().name(),
               config_.parallel.shard_optimizer ? ", optimizer sharded" : "", "; ",
               config_.train.global_batch, " x ", config_.model.context, " tokens a step"));
  if (shape.sequence > 1) log_info(step_->gradient().describe_exchange());
  if (const std::string kernels = step_->gradient().describe_kernels(); !kernels.empty()) log_info(kernels);
  prepare_rescue();
  end_before_training();
}

Trainer::~Trainer() = default;

void Trainer::open_data() {
  data_ = std::make_unique<TrainingData>(config_);
  const int64_t vocabulary = data_->split().vocab_size();
  if (config_.model.vocab_size == 0) config_.model.vocab_size = vocabulary;
  require<ConfigError>(
      config_.model.vocab_size >= vocabulary, "model.vocab_size = ", config_.model.vocab_size,
      " is smaller than the data set's ", vocabulary,
      " (its tokens would have no embedding). Set model.vocab_size=0 or at least ", vocabulary, ".");
  loader_ = std::make_unique<Loader>(data_->make_loader(config_));
}

void Trainer::settle_config() {
  if (is_first_rank())
    for (const std::string& note : data_->notes(config_)) log_info(note);
  const int64_t rows = config_.train.global_batch / mesh_->shape().data;
  if (config_.train.micro_batch > rows)
    log_info(cat("train.micro_batch = ", config_.train.micro_batch, " is without effect: a rank has ", rows,
                 " sequences a step"));
  const TimeoutScope disk(mesh_->host(), config_.checkpoints.timeout_s);
  settle_decays(config_to_resume(config_.train.resume, config_.run_dir + "/checkpoints", mesh_->host()),
                &config_);
}

Facts Trainer::facts_of_data() const {
  Facts facts = data_facts(data_->splits());
  facts.insert(facts.begin(), {"order", to_hex(loader_->sequence_hash())});
  return facts;
}

// Collective over the world; called before each long step of the start.
void Trainer::end_before_training() {
  const std::string signal = stop_signal();
  if (all_agree(mesh_->host(), signal.empty() ? Vote::kYes : Vote::kNo)) return;
  throw Interrupted(cat(signal.empty() ? "another rank was asked to end" : signal + " received",
                        " before the first step: nothing was trained. Start again with "
                        "train.resume=auto to go on (exit code 75)."));
}

// Rank 0 alone touches the folder; the others wait, so that nobody reads a half-prepared one.
void Trainer::prepare_run_folder() {
  const TimeoutScope disk(mesh_->host(), config_.checkpoints.timeout_s);
  on_all_ranks(mesh_->host(), [&] {
    if (!is_first_rank()) return;
    if (begins_run_ && set_old_run_aside(config_.run_dir)) {
      lock_ = std::make_unique<RunLock>(config_.run_dir);
      require_writable(config_.run_dir + "/checkpoints");
    }
    RunConfig stored = stored_form(config_);
    publish_file(config_.run_dir + "/config.yaml", to_yaml(fields_of(stored)));
    log_ = std::make_unique<RunLog>(config_.run_dir, progress_.step, config_.train.steps,
                                    config_.train.tensorboard ? EventLog::kTensorBoard : EventLog::kOff);
  });
}

void Trainer::run() {
  feed_ = std::make_unique<BatchFeed>(config_, step_->gradient().share(), step_->gradient().micro_rows(),
                                      progress_.samples, progress_.order_hash,
                                      loader_->cursors_at(progress_.samples), device_,
                                      step_->model().accumulation_type());
  last_saved_step_ = progress_.step;
  tokens_before_ = progress_.tokens;
  started_at_s_ = now_s();
  double interval_start = started_at_s_;
  int64_t interval_tokens = 0;
  while (progress_.step < config_.train.steps) {
    const int64_t tokens_before = progress_.tokens;
    std::optional<QueuedStep> before = std::exchange(queued_, std::nullopt);
    queued_ = queue_step();
    // The device is busy with the new step while the host looks at the one before.
    if (before) finish_step(*before);
    interval_tokens += progress_.tokens - tokens_before;
    const bool last = progress_.step == config_.train.steps;
    const bool log = logs_after(progress_.step);
    const bool saves =
        last || (config_.train.save_every > 0 && progress_.step % config_.train.save_every == 0);
    // On the CPU nothing is gained by looking later.
    if (log || saves || stop_ || has_diverged() || device_.is_cpu())
      finish_step(*std::exchange(queued_, std::nullopt));
    if (log) {
      log_interval(now_s() - interval_start, interval_tokens);
      interval_start = now_s();
      interval_tokens = 0;
    }
    if (log_) log_->progress(progress_.step);
    if (has_diverged()) break;
    // A wish to stop is seen when a step is finished. No step is in the queue here. It waits for one that was
    // not skipped: what came since the last save is not lost for one step's sake.
    const bool stops = stop_ && progress_.skipped_in_a_row == 0;
    // Saving counts as time of the next interval: tokens/s is what a user gets.
    if (saves || stops) {
      require_text();
      save();
    }
    if (stops) break;
  }
  end_run();
}

bool Trainer::has_diverged() const {
  return progress_.skipped_in_a_row >= config_.train.max_skipped;
}

// Collective over the world. `how` and `why` for the log; throws `error` on all ranks.
template <typename E>
void Trainer::end_early(E error, const std::string& how, const std::string& why) {
  try {
    if (log_) log_->write_end({progress_.step, how, why, newest_checkpoint()});
  } catch (const std::exception& unwritten) {  // it may not take the place of how the run ended
    log_warn(cat("the run's end is not in its log: ", unwritten.what()));
  }
  mesh_->host().barrier();  // a rank that has failed ends the others soon
  throw error;
}

// Rank 0, alone between collectives: does not throw.
std::string Trainer::advice_after_divergence() const {
  const char* lower = "Lower train.learning_rate or model.fast_weight.step_size_init and ";
  try {
    const std::string good = newest_checkpoint();
    return cat(" The newest checkpoint, from before that, is ", good.empty() ? "none" : "'" + good + "'",
               ". ", lower, good.empty() ? "start afresh." : "start again with train.resume=auto.");
  } catch (const UnavailableError& error) {
    return cat(" Which checkpoint is the newest cannot be seen: ", error.what(), " ", lower, "start again.");
  }
}

void Trainer::end_run() {
  feed_.reset();
  const TimeoutScope disk(mesh_->host(), config_.checkpoints.timeout_s);
  const bool saved = checkpointer_->finish();
  if (has_diverged()) unsound_ = unsound({});
  if (!unsound_.empty()) {
    const std::string what = cat("step ", progress_.step, ": ", unsound_, " (training has diverged).");
    end_early(CheckFailed(is_first_rank() ? what + advice_after_divergence() : what), "diverged", unsound_);
  }
  // A run may not end as if all were well without its last checkpoint.
  if (!saved)
    end_early(DataError(cat(
                  "the last checkpoint, of step ", progress_.step,
                  ", could not be written (see the warning above; what was trained since the one before "
                  "it is lost). Make room or repair the folder, and start again with train.resume=auto.")),
              "not saved", "the last checkpoint could not be written");
  if (progress_.step < config_.train.steps)
    end_early(Interrupted(cat("ended early after step ", progress_.step, " of ", config_.train.steps,
                              ", saved. Start again with train.resume=auto to go on (exit code 75).")),
              "stopped", stopped_by_.empty() ? "another rank was told to" : stopped_by_);
  require<DataError>(
      progress_.tokens > 0 || progress_.step == 0,
      "no step had a label (the documents are empty), so nothing was learned. Look at the data set "
      "with fwl inspect.");
}

std::string Trainer::next_command() const {
  const Split& split = data_->split();
  for (const char* held_out : {"test", "valid"})
    if (split.manifest().splits.count(held_out) > 0)
      return cat("fwl eval ", config_.run_dir, " --data ", split.path(), "/", held_out);
  return cat("fwl generate ", config_.run_dir, " --prompt TEXT");
}

bool Trainer::logs_after(int64_t step) const {
  return step % config_.train.log_every == 0 || step == config_.train.steps;
}

// Why this rank wants to end early; empty when it does not.
std::string Trainer::wish_to_stop() const {
  const std::string signal = stop_signal();
  if (!signal.empty()) return signal + " received";
  const double limit = config_.train.max_seconds;
  return limit > 0 && now_s() - constructed_at_s_ >= limit ? cat("train.max_seconds = ", limit, " reached")
                                                           : std::string();
}

// One small all-reduce a step: the losses, who wants to stop, where the writers are, and whether all ranks
// have read the same samples.
LossSums Trainer::sum_over_ranks(const QueuedStep& step, const LossSums& own) {
  const std::string wish = wish_to_stop();
  if (!wish.empty() && !stop_) log_warn(cat(wish, ": ending after this step."));
  if (!wish.empty()) stopped_by_ = wish;
  const Checkpointer::Status status = checkpointer_->status();
  const EqualityVote order(step.order_hash);
  const std::vector<double> sums =
      all_reduce_sum(mesh_->host(), {own.main, own.slow, wish.empty() ? 0.0 : 1.0, status.busy, status.failed,
                                     order.value, order.square, static_cast<double>(feed_->labels())});
  stop_ = sums[2] > 0;
  labels_read_ = sums[7];
  if (!EqualityVote::all_equal(sums[5], sums[6], mesh_->host().size()))
    require_same_facts(
        mesh_->host(), cat("the order of the samples read up to step ", step.number),
        {{"hash", to_hex(step.order_hash)}},
        "(a rank has left out text that the others read, or its files were changed: the ranks no longer "
        "train on one batch). Compare the data of its host (`fwl data check`), and start again with "
        "train.resume=auto.");
  checkpointer_->advance({sums[3], sums[4]});
  return {sums[0], sums[1]};
}

// On a GPU nothing here waits for the device.
Trainer::QueuedStep Trainer::queue_step() {
  // The order says how many labels the windows have, so the global count is known without asking the other
  // ranks.
  const int64_t labels = loader_->labels_in(progress_.samples, config_.train.global_batch);
  // Without a label the gradient is zero, and so is the learning rate: the step passes over its text.
  const auto tokens = static_cast<double>(std::max<int64_t>(1, labels));
  norms_.reset();
  if (step_->model().has_fast_weights() && logs_after(progress_.step + 1)) norms_.emplace(step_->model());
  step_->gradient().watch_states(norms_ ? &*norms_ : nullptr);
  const double learning_rate = labels > 0 ? learning_rate_at(config_.train.schedule(), progress_.step) : 0;
  changing_.unlock();
  const StepOutcome outcome =
      step_->run([&](int64_t first_row, int64_t rows) { return feed_->next(first_row, rows); }, tokens,
                 learning_rate, [&] { changing_.lock(); });
  if (progress_.samples - anchor_.sample >= loader_->samples_checked_at_resume()) anchor_ = anchor_here();
  progress_.step += 1;
  progress_.order_hash = feed_->order_hash();
  progress_.samples += config_.train.global_batch;
  progress_.tokens += labels;
  return {progress_.step, static_cast<double>(labels), learning_rate, outcome, progress_.order_hash};
}

// Collective over the world.
void Trainer::finish_step(const QueuedStep& step) {
  const StepOutcome::Numbers numbers = step.outcome.wait();
  const LossSums sums = sum_over_ranks(step, numbers.own);
  last_gradient_norm_ = numbers.gradient_norm;
  last_learning_rate_ = step.learning_rate;
  // All ranks have the same norm, so all of them count alike.
  const double loss = sums.main / std::max(1.0, step.tokens);
  is_last_loss_finite_ = std::isfinite(loss);
  count_skip(step, numbers, loss);
  if (numbers.skipped) return;
  progress_.updates += 1;
  progress_.loss_sum += sums.main;
  progress_.slow_loss_sum += sums.slow;
  progress_.loss_tokens += step.tokens;
}

void Trainer::count_skip(const QueuedStep& step, const StepOutcome::Numbers& numbers, double loss) {
  if (!numbers.skipped) {
    progress_.skipped_in_a_row = 0;
    return;
  }
  progress_.skipped += 1;
  progress_.skipped_in_a_row += 1;
  if (is_first_rank())
    log_warn(cat("step ", step.number, " skipped: loss ", loss, ", gradient norm ", numbers.gradient_norm,
                 " (not finite)"));
}

void Trainer::log_interval(double interval_s, int64_t interval_tokens) {
  const double tokens = progress_.loss_tokens;
  std::optional<IntervalTimes> times;
  if (config_.parallel.timing && config_.train.log_every <= kTimedSteps)
    times = interval_times(*mesh_, device_);
  const MeanStateNorms norms = norms_ ? norms_->mean(mesh_->host()) : MeanStateNorms();
  if (log_) {
    LogEntry entry;
    entry.step = progress_.step;
    entry.tokens = progress_.tokens;
    entry.loss = tokens > 0 ? progress_.loss_sum / tokens : std::nan("");
    entry.loss_slow = tokens > 0 ? progress_.slow_loss_sum / tokens : std::nan("");
    entry.grad_norm = last_gradient_norm_;
    entry.learning_rate = last_learning_rate_;
    entry.tokens_per_s = static_cast<double>(interval_tokens) / interval_s;
    entry.time_s = now_s() - started_at_s_;
    entry.skipped = progress_.skipped;
    entry.save_blocked_s = checkpointer_->take_blocked_s();
    entry.save_written_s = checkpointer_->take_written_s();
    entry.data_wait = (feed_->waited_s() - waited_before_s_) / interval_s;
    entry.order_hash = to_hex(progress_.order_hash);
    entry.documents_left_out = feed_->documents_left_out();
    entry.step_sizes = step_->model().mean_step_sizes();
    entry.decays = step_->model().decays();
    entry.state_norms = norms.state;
    entry.fast_to_slow = norms.fast_to_slow;
    entry.total_steps = config_.train.steps;
    if (config_.train.tensorboard) entry.step_size_rows = step_sizes_by_row(step_->model());
    if (times) {
      entry.communication = times->communication_s / interval_s;
      entry.peak_memory_bytes = times->peak_memory_bytes;
      entry.rank_lag_s = times->rank_lag_s;
    }
    log_->write(entry);
  }
  waited_before_s_ = feed_->waited_s();
  progress_.loss_sum = progress_.slow_loss_sum = progress_.loss_tokens = 0;
}

}  // namespace fwl
