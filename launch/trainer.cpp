#include "launch/trainer.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <utility>

#include "core/base/clock.h"
#include "core/base/device.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/log.h"
#include "core/base/threads.h"
#include "launch/batches.h"
#include "launch/carried_state.h"
#include "launch/interval_times.h"
#include "launch/resume.h"
#include "launch/signals.h"
#include "launch/tensorboard/step_sizes.h"
#include "parallel/session.h"

namespace fwl {
namespace {

namespace fs = std::filesystem;

// Transfers keep their times until they are taken, once a logged interval: a longer one would hold too many.
constexpr int64_t kTimedSteps = 100;

// A fresh run in a folder that holds one: the old run is renamed, never mixed or lost.
bool set_old_run_aside(const std::string& dir) {
  if (!fs::exists(dir + "/config.yaml") && !fs::exists(dir + "/checkpoints")) return false;
  for (int n = 1;; ++n) {
    const std::string aside = cat(dir, ".previous-", n);
    if (fs::exists(aside)) continue;
    fs::rename(dir, aside);
    fs::remove(aside + "/lock");
    log_info(cat("'", dir, "' held a run; it is now '", aside,
                 "' (train.resume=auto would have gone on with it)"));
    return true;
  }
}

// What this rank writes of weights and moments, so that each element is written once. `even_share`: its part
// where all ranks have everything.
std::vector<SliceBlock> optimizer_blocks(Parameters& parameters, ShardedOptimizer& optimizer,
                                         ElementRange even_share, int rank) {
  AdamW& own = optimizer.own();
  const auto even = [&](const char* kind, const Tensor& flat) {
    return flat_block(kind, parameters, {even_share},
                      flat.detach().narrow(0, even_share.first, even_share.count));
  };
  const int64_t kept = own.first_moments().numel(), shared = optimizer.shared_elements();
  if (shared == kept)  // replicated
    return {even("weights", parameters.values()), even("first_moments", own.first_moments()),
            even("second_moments", own.second_moments())};
  std::vector<ElementRange> ranges = own.owned();
  const int64_t written = kept - (rank == 0 ? 0 : shared);
  if (rank != 0 && shared > 0) ranges.pop_back();
  const auto spread = [&](const char* kind, const Tensor& flat) {
    return flat_block(kind, parameters, ranges, flat.narrow(0, 0, written));
  };
  return {own.masters().defined() ? spread("weights", own.masters()) : even("weights", parameters.values()),
          spread("first_moments", own.first_moments()), spread("second_moments", own.second_moments())};
}

std::vector<DocumentCursor> cursors_of(const OrderAnchor& anchor) {
  require<DataError>(anchor.stream_dealt.size() == anchor.stream_first_window.size(),
                     "the checkpoint's anchor names ", anchor.stream_dealt.size(), " streams' documents and ",
                     anchor.stream_first_window.size(), " of their windows. Use another checkpoint.");
  std::vector<DocumentCursor> cursors;
  for (size_t stream = 0; stream < anchor.stream_dealt.size(); ++stream)
    cursors.push_back({anchor.stream_dealt[stream], anchor.stream_first_window[stream]});
  return cursors;
}

}  // namespace

Trainer::Trainer(RunConfig config, ConfigChanges changes)
    : config_(std::move(config)), device_(at::kCPU), constructed_at_s_(now_s()) {
  const Placement& place = world();
  set_log_rank(place.rank, place.size);
  if (config_.train.deterministic) make_deterministic();
  log_info(set_thread_count(place.local_size));
  const MeshShape shape = validate(config_, place.size);
  device_ = choose_device(config_.train.device, place.local_rank);
  mesh_ = std::make_unique<Mesh>(shape, device_, config_.parallel.timeout_s);
  require_same_text(mesh_->host(), "the run's config", to_yaml(fields_of(config_)));
  install_stop_signals();
  lock_run_folder();
  open_data();
  step_ = std::make_unique<TrainingStep>(config_, *mesh_, device_);
  resume(changes);
  prepare_run_folder();
  checkpointer_ = std::make_unique<Checkpointer>(
      config_.run_dir + "/checkpoints", Retention{config_.checkpoints.keep, config_.checkpoints.keep_every},
      config_.checkpoints.asynchronous ? Checkpointer::Mode::kAsynchronous : Checkpointer::Mode::kSynchronous,
      mesh_->host());
  if (config_.train.save_every > 0) checkpointer_->reserve(owned_blocks());
  log_info(cat("training ", step_->model().parameters().count(), " parameters on ", place.size,
               " rank(s), layout ", shape.to_string(), " (data x sequence), ", device_.str(), ", ",
               config_.train.dtype, ", gradients over ", mesh_->world().name(),
               config_.parallel.shard_optimizer ? ", optimizer sharded" : "", "; ",
               config_.train.global_batch, " x ", config_.model.context, " tokens a step"));
  if (shape.sequence > 1) log_info(step_->gradient().describe_exchange());
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

// Before anything of the folder is read. Only rank 0 looks; when it is refused, it ends all.
void Trainer::lock_run_folder() {
  if (is_first_rank()) lock_ = std::make_unique<RunLock>(config_.run_dir);
}

// Rank 0 alone touches the folder; the others wait, so that nobody reads a half-prepared one.
void Trainer::prepare_run_folder() {
  if (is_first_rank()) {
    if (config_.train.resume == "none" && set_old_run_aside(config_.run_dir))
      lock_ = std::make_unique<RunLock>(config_.run_dir);
    publish_file(config_.run_dir + "/config.yaml", to_yaml(fields_of(config_)));
    log_ = std::make_unique<RunLog>(config_.run_dir, progress_.step, config_.train.steps,
                                    config_.train.tensorboard ? EventLog::kTensorBoard : EventLog::kOff);
  }
  mesh_->host().barrier();
}

OrderAnchor Trainer::anchor_here() const {
  OrderAnchor anchor{progress_.samples, progress_.order_hash, {}, {}};
  for (const DocumentCursor& cursor : loader_->cursors_at(progress_.samples)) {
    anchor.stream_dealt.push_back(cursor.dealt);
    anchor.stream_first_window.push_back(cursor.first_window);
  }
  return anchor;
}

// What the run has consumed since the anchor must be what this data and config would have given, unless they
// are others by the user's wish (check_resume has seen to that): then the order begins anew here.
void Trainer::continue_order(const CheckpointInfo& info) {
  progress_.samples = info.progress.samples;
  progress_.order_hash = info.data.rolling_hash;
  anchor_ = info.data.anchor;
  if (info.data.sequence_hash != loader_->sequence_hash()) {
    anchor_ = anchor_here();
    return;
  }
  if (anchor_.sample > 0) loader_->go_on_from(cursors_of(anchor_));
  const uint64_t expected =
      loader_->rolling_hash(anchor_.rolling_hash, anchor_.sample, progress_.samples - anchor_.sample);
  require<DataError>(
      progress_.order_hash == expected, info.path, ": the ", progress_.samples,
      " samples read so far have hash ", to_hex(progress_.order_hash),
      ", with this data and config they would have ", to_hex(expected),
      " (some text would be read twice, some never). Resume with the data, seed and context of "
      "the run.");
}

void Trainer::load(CheckpointReader& reader) {
  continue_order(reader.info());
  Parameters& parameters = step_->model().parameters();
  check_fits(reader, parameters);
  AdamW& own = step_->optimizer().own();
  // Room for all weights, also where each rank keeps but a part of them.
  read_flat(reader, "weights", parameters, {{0, parameters.count()}}, parameters.gradients());
  own.set_values(parameters.gradients());
  read_flat(reader, "first_moments", parameters, own.owned(), own.first_moments());
  read_flat(reader, "second_moments", parameters, own.owned(), own.second_moments());
  if (config_.train.stream) restore_carried_streams(reader);
}

void Trainer::resume(ConfigChanges changes) {
  const Tokenizer& tokenizer = data_->split().tokenizer();
  const std::string kind = tokenizer.kind();
  const DataIdentity data{loader_->sequence_hash(), kind,
                          kind == "byte" ? std::string() : tokenizer.serialized()};
  const auto info =
      resume_from(config_.train.resume, config_.run_dir + "/checkpoints",
                  {[&](const CheckpointInfo& stored) { check_resume(stored, config_, data, changes); },
                   [&](CheckpointReader& reader) { load(reader); }},
                  mesh_->host());
  if (!info) return;
  progress_ = info->progress;
  progress_.order_hash = info->data.rolling_hash;
  step_->optimizer().own().set_updates(progress_.updates);
}

void Trainer::run() {
  feed_ = std::make_unique<BatchFeed>(config_, step_->gradient().share(), step_->gradient().micro_rows(),
                                      progress_.samples, loader_->cursors_at(progress_.samples), device_,
                                      step_->model().accumulation_type());
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
    if (log || saves || stop_) finish_step(*std::exchange(queued_, std::nullopt));
    if (log) {
      log_interval(now_s() - interval_start, interval_tokens);
      interval_start = now_s();
      interval_tokens = 0;
    }
    if (log_) log_->progress(progress_.step);
    // A wish to stop is seen when a step is finished. No step is in the queue here.
    // Saving counts as time of the next interval: tokens/s is what a user gets.
    if (saves || stop_) save();
    if (stop_) break;
  }
  feed_.reset();
  finish_saving();
  if (progress_.step < config_.train.steps)
    throw Interrupted(cat("ended early after step ", progress_.step, " of ", config_.train.steps,
                          ", saved. Start again with train.resume=auto to go on (exit code 75)."));
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

// One small all-reduce a step: the losses, who wants to stop, and where the writers are.
LossSums Trainer::sum_over_ranks(const LossSums& own) {
  const std::string wish = wish_to_stop();
  if (!wish.empty() && !stop_) log_warn(cat(wish, ": ending after this step."));
  const Checkpointer::Status status = checkpointer_->status();
  const std::vector<double> sums = all_reduce_sum(
      mesh_->host(), {own.main, own.slow, wish.empty() ? 0.0 : 1.0, status.busy, status.failed});
  stop_ = sums[2] > 0;
  checkpointer_->advance({sums[3], sums[4]});
  return {sums[0], sums[1]};
}

// On a GPU nothing here waits for the device.
Trainer::QueuedStep Trainer::queue_step() {
  // The order says how many labels the windows have, so the global count is known without asking the other
  // ranks.
  const int64_t labels = loader_->labels_in(progress_.samples, config_.train.global_batch);
  const auto tokens = static_cast<double>(labels);
  norms_.reset();
  if (step_->model().has_fast_weights() && logs_after(progress_.step + 1)) norms_.emplace(step_->model());
  step_->gradient().watch_states(norms_ ? &*norms_ : nullptr);
  const double learning_rate = learning_rate_at(config_.train.schedule(), progress_.step);
  const StepOutcome outcome = step_->run(
      [&](int64_t first_row, int64_t rows) { return feed_->next(first_row, rows); }, tokens, learning_rate);
  if (progress_.samples - anchor_.sample >= loader_->samples_checked_at_resume()) anchor_ = anchor_here();
  progress_.step += 1;
  progress_.order_hash =
      loader_->rolling_hash(progress_.order_hash, progress_.samples, config_.train.global_batch);
  progress_.samples += config_.train.global_batch;
  progress_.tokens += labels;
  return {progress_.step, tokens, learning_rate, outcome};
}

// Collective over the world.
void Trainer::finish_step(const QueuedStep& step) {
  const StepOutcome::Numbers numbers = step.outcome.wait();
  const LossSums sums = sum_over_ranks(numbers.own);
  last_gradient_norm_ = numbers.gradient_norm;
  last_learning_rate_ = step.learning_rate;
  // All ranks have the same norm, so all of them count alike.
  count_skip(step, numbers, sums.main / step.tokens);
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
  require<CheckFailed>(
      progress_.skipped_in_a_row < config_.train.max_skipped, progress_.skipped_in_a_row,
      " steps in a row had a non-finite loss or gradient (training has diverged; nothing was updated since). "
      "Lower train.learning_rate or model.fast_weight.step_size_init and resume from the last checkpoint.");
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

CheckpointInfo Trainer::checkpoint_info() {
  const Tokenizer& tokenizer = data_->split().tokenizer();
  CheckpointInfo info;
  info.progress = progress_;
  info.data = {loader_->sequence_hash(),
               progress_.order_hash,
               config_.train.seed,
               config_.train.stream ? config_.train.global_batch : 0,
               stream_position(),
               {},
               {},
               anchor_};
  for (int64_t stream = 0; stream < info.data.streams; ++stream) {
    info.data.stream_tokens.push_back(loader_->first_token_of(progress_.samples + stream));
    info.data.stream_documents.push_back(loader_->document_of(progress_.samples + stream));
  }
  info.learning_rate = {learning_rate_at(config_.train.schedule(), progress_.step),
                        config_.train.learning_rate, config_.train.warmup_steps, config_.train.steps,
                        config_.train.learning_rate_floor};
  info.layout = {mesh_->shape().ranks(), mesh_->shape().data, mesh_->shape().sequence,
                 config_.parallel.shard_optimizer, device_.str()};
  info.config_yaml = to_yaml(fields_of(config_));
  info.tokenizer_kind = tokenizer.kind();
  if (info.tokenizer_kind != "byte") info.tokenizer_bytes = tokenizer.serialized();
  return info;
}

// The ranks share the elements evenly: N ranks write N times as fast as one.
std::vector<SliceBlock> Trainer::owned_blocks() {
  Parameters& parameters = step_->model().parameters();
  const Communicator& ranks = mesh_->host();
  return optimizer_blocks(parameters, step_->optimizer(),
                          part_of({0, parameters.count()}, ranks.rank(), ranks.size()), ranks.rank());
}

// Collective over the mesh's sequence axis with train.stream.
std::vector<SliceBlock> Trainer::owned_with_streams() {
  std::vector<SliceBlock> blocks = owned_blocks();
  if (!config_.train.stream) return blocks;
  const StreamState state = step_->gradient().stream_state();
  if (mesh_->sequence_rank() == 0)
    add_stream_blocks(state, step_->gradient().share().first_row, config_.train.global_batch, &blocks);
  return blocks;
}

int64_t Trainer::stream_position() const {
  return config_.train.stream ? progress_.samples / config_.train.global_batch * config_.model.context : 0;
}

void Trainer::restore_carried_streams(CheckpointReader& reader) {
  const DataPosition& data = reader.info().data;
  require<ConfigError>(data.streams == config_.train.global_batch, reader.path(), " carries ", data.streams,
                       " streams, train.global_batch is ", config_.train.global_batch,
                       " (each stream has its own state). Resume with the batch that it was written with.");
  for (size_t i = 0; i < data.stream_tokens.size(); ++i) {
    const int64_t next = loader_->first_token_of(reader.info().progress.samples + static_cast<int64_t>(i));
    require<ConfigError>(
        data.stream_tokens[i] == next, reader.path(), ": stream ", i, " goes on at token ",
        data.stream_tokens[i], ", with this data and config it would at ", next,
        " (its state would meet another text). Resume with the data, seed and context of the "
        "run.");
  }
  step_->gradient().set_stream_state(read_streams(reader, step_->gradient().share().first_row,
                                                  step_->gradient().share().rows, device_,
                                                  parse_dtype(config_.train.dtype)));
}

void Trainer::save() {
  checkpointer_->begin(checkpoint_info(), owned_with_streams());
}

// A run may not end as if all were well without its last checkpoint.
void Trainer::finish_saving() {
  require<DataError>(
      checkpointer_->finish(), "the last checkpoint, of step ", progress_.step,
      ", could not be written (see the warning above; what was trained since the one before it is "
      "lost). Make room or repair the folder, and start again with train.resume=auto.");
}

}  // namespace fwl
