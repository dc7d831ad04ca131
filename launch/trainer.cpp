#include "launch/trainer.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>

#include "core/base/device.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/log.h"
#include "launch/batches.h"
#include "launch/carried_state.h"
#include "launch/load_model.h"
#include "parallel/session.h"

namespace fwl {
namespace {

namespace fs = std::filesystem;

double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// A fresh run in a folder that holds one: the old run is renamed, never mixed or lost.
void set_old_run_aside(const std::string& dir) {
  if (!fs::exists(dir + "/config.yaml") && !fs::exists(dir + "/checkpoints")) return;
  for (int n = 1;; ++n) {
    const std::string aside = cat(dir, ".previous-", n);
    if (fs::exists(aside)) continue;
    fs::rename(dir, aside);
    log_info(cat("'", dir, "' held a run; it is now '", aside,
                 "' (train.resume=auto would have gone on with it)"));
    return;
  }
}

}  // namespace

Trainer::Trainer(RunConfig config) : config_(std::move(config)), device_(at::kCPU) {
  const Placement& place = world();
  set_log_rank(place.rank, place.size);
  set_thread_count(place.local_size);
  const MeshShape shape = validate(config_, place.size);
  device_ = choose_device(config_.train.device, place.local_rank);
  mesh_ = std::make_unique<Mesh>(shape, device_, config_.parallel.timeout_s);
  require_same_text(mesh_->host(), "the run's config", to_yaml(fields_of(config_)));
  open_data();
  model_ = std::make_unique<LanguageModel>(config_.model, device_, parse_dtype(config_.train.dtype),
                                           static_cast<uint64_t>(config_.train.seed));
  optimizer_ = std::make_unique<AdamW>(model_->parameters(), config_.train.optimizer);
  step_ = std::make_unique<StepGradient>(*model_, *mesh_, config_);
  resume();
  prepare_run_folder();
  log_info(cat("training ", model_->parameters().count(), " parameters on ", place.size, " rank(s), layout ",
               shape.to_string(), " (data x sequence), ", device_.str(), ", ", config_.train.dtype,
               ", gradients over ", mesh_->world().name(), "; ", config_.train.global_batch, " x ",
               config_.model.context, " tokens a step"));
  if (shape.sequence > 1) log_info(step_->describe_exchange());
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

// Rank 0 alone touches the folder; the others wait, so that nobody reads a half-prepared one.
void Trainer::prepare_run_folder() {
  if (is_first_rank()) {
    if (config_.train.resume == "none") set_old_run_aside(config_.run_dir);
    std::error_code error;
    fs::create_directories(config_.run_dir, error);
    require<ConfigError>(!error, "run.dir '", config_.run_dir, "' cannot be made: ", error.message(),
                         ". Choose a folder that can be written.");
    publish_file(config_.run_dir + "/config.yaml", to_yaml(fields_of(config_)));
    log_ = std::make_unique<RunLog>(config_.run_dir, progress_.step, config_.train.steps);
  }
  mesh_->host().barrier();
}

// What the run has consumed so far must be what this data and config would have given.
void Trainer::require_same_order(const TrainingProgress& progress, const std::string& step_dir) const {
  if (progress.order_hash == 0) return;  // written before it was kept
  const uint64_t expected = loader_->rolling_hash(0, 0, progress.samples);
  require<DataError>(
      progress.order_hash == expected, step_dir, ": the ", progress.samples,
      " samples read so far have hash ", to_hex(progress.order_hash),
      ", with this data and config they would have ", to_hex(expected),
      " (some text would be read twice, some never). Resume with the data, seed and context of "
      "the run.");
}

void Trainer::load(const std::string& step_dir) {
  const CheckpointInfo info = read_checkpoint_info(step_dir);
  require_same_order(info.progress, step_dir);
  read_checkpoint_tensors(step_dir, model_->parameters(), &optimizer_->first_moments(),
                          &optimizer_->second_moments());
  progress_ = info.progress;
  optimizer_->set_updates(progress_.updates);
  if (config_.train.stream) restore_carried_streams(step_dir);
}

void Trainer::resume() {
  const std::string& from = config_.train.resume;
  if (from == "none") return;
  if (from != "auto") {
    load(find_checkpoint(from));
    log_info(cat("resumed from ", from, " at step ", progress_.step));
    return;
  }
  const std::vector<std::string> found = list_checkpoints(config_.run_dir + "/checkpoints");
  for (const std::string& step_dir : found) {
    try {
      load(step_dir);
      log_info(cat("resumed from ", step_dir, " at step ", progress_.step));
      return;
    } catch (const DataError& error) {
      log_warn(cat(error.what(), " Passed over: trying the checkpoint before it."));
    }
  }
  // Starting afresh here would overwrite a run that only needs the right config.
  require<DataError>(
      found.empty(), "none of the ", found.size(), " checkpoints in '", config_.run_dir,
      "/checkpoints' can be used (see the warnings above). Use the config that they were written with, or "
      "train.resume=none, which sets the old run aside and starts afresh.");
  log_info("train.resume=auto: no checkpoint yet, starting at step 0");
}

void Trainer::run() {
  feed_ = std::make_unique<BatchFeed>(config_, step_->share(), step_->micro_rows(), progress_.samples,
                                      device_, model_->accumulation_type());
  started_at_s_ = now_s();
  double interval_start = started_at_s_;
  int64_t interval_tokens = 0;
  while (progress_.step < config_.train.steps) {
    const StepResult result = train_step();
    interval_tokens += config_.train.global_batch * config_.model.context;
    if (progress_.step % config_.train.log_every == 0 || progress_.step == config_.train.steps) {
      log_interval(result, now_s() - interval_start, interval_tokens);
      interval_start = now_s();
      interval_tokens = 0;
    }
    if (log_) log_->progress(progress_.step);
    const bool last = progress_.step == config_.train.steps;
    // Saving counts as time of the next interval: tokens/s is what a user gets.
    if (last || (config_.train.save_every > 0 && progress_.step % config_.train.save_every == 0)) save();
  }
  feed_.reset();
}

Trainer::StepResult Trainer::train_step() {
  StepResult result;
  model_->parameters().zero_gradients();
  // Every position of a training window is scored, so the global count is known without asking the other
  // ranks.
  const auto tokens = static_cast<double>(config_.train.global_batch * config_.model.context);
  const LossSums own = step_->accumulate(
      [&](int64_t first_row, int64_t rows) { return feed_->next(first_row, rows); }, tokens);
  const std::vector<double> sums = all_reduce_sum(mesh_->host(), {own.main, own.slow});
  // Sums over all ranks: every rank sees the same values, so all of them decide alike.
  result.grad_norm = global_norm(model_->parameters().gradients());
  result.learning_rate = learning_rate_at(config_.train.schedule(), progress_.step);
  result.skipped = !std::isfinite(sums[0]) || !std::isfinite(result.grad_norm);
  progress_.step += 1;
  progress_.order_hash =
      loader_->rolling_hash(progress_.order_hash, progress_.samples, config_.train.global_batch);
  progress_.samples += config_.train.global_batch;
  progress_.tokens += config_.train.global_batch * config_.model.context;
  count_skip(result, sums[0] / tokens);
  if (result.skipped) return result;
  const double clip = config_.train.clip_norm;
  optimizer_->step(result.learning_rate, clip > 0 && result.grad_norm > clip ? clip / result.grad_norm : 1.0);
  progress_.updates = optimizer_->updates();
  progress_.loss_sum += sums[0];
  progress_.slow_loss_sum += sums[1];
  progress_.loss_tokens += tokens;
  return result;
}

void Trainer::count_skip(const StepResult& result, double loss) {
  if (!result.skipped) {
    progress_.skipped_in_a_row = 0;
    return;
  }
  progress_.skipped += 1;
  progress_.skipped_in_a_row += 1;
  if (is_first_rank())
    log_warn(cat("step ", progress_.step, " skipped: loss ", loss, ", gradient norm ", result.grad_norm,
                 " (not finite)"));
  require<CheckFailed>(
      progress_.skipped_in_a_row < config_.train.max_skipped, progress_.skipped_in_a_row,
      " steps in a row had a non-finite loss or gradient (training has diverged; nothing was updated since). "
      "Lower "
      "train.learning_rate or model.fast_weight.step_size_init and resume from the last checkpoint.");
}

void Trainer::log_interval(const StepResult& last, double interval_s, int64_t interval_tokens) {
  const double tokens = progress_.loss_tokens;
  if (log_) {
    LogEntry entry;
    entry.step = progress_.step;
    entry.tokens = progress_.tokens;
    entry.loss = tokens > 0 ? progress_.loss_sum / tokens : std::nan("");
    entry.loss_slow = tokens > 0 ? progress_.slow_loss_sum / tokens : std::nan("");
    entry.grad_norm = last.grad_norm;
    entry.learning_rate = last.learning_rate;
    entry.tokens_per_s = static_cast<double>(interval_tokens) / interval_s;
    entry.time_s = now_s() - started_at_s_;
    entry.skipped = progress_.skipped;
    entry.data_wait = (feed_->waited_s() - waited_before_s_) / interval_s;
    entry.order_hash = to_hex(progress_.order_hash);
    entry.documents_left_out = feed_->documents_left_out();
    entry.step_sizes = model_->mean_step_sizes();
    entry.decays = model_->decays();
    log_->write(entry);
  }
  waited_before_s_ = feed_->waited_s();
  progress_.loss_sum = progress_.slow_loss_sum = progress_.loss_tokens = 0;
}

// Collective over the world; complete on rank 0.
CarriedStreams Trainer::carried_streams() {
  CarriedStreams streams;
  if (!config_.train.stream) return streams;
  streams.tensors = gather_streams(*mesh_, *step_);
  streams.position = progress_.samples / config_.train.global_batch * config_.model.context;
  for (int64_t stream = 0; stream < config_.train.global_batch; ++stream) {
    streams.next_token.push_back(loader_->first_token_of(progress_.samples + stream));
    streams.document.push_back(data_->split().document_of(streams.next_token.back()));
  }
  return streams;
}

void Trainer::restore_carried_streams(const std::string& step_dir) {
  const CarriedStreams streams = read_checkpoint_streams(step_dir);
  require<DataError>(!streams.next_token.empty(), step_dir,
                     " was written without train.stream (it carries no state). Resume with "
                     "train.stream=false, or start a run of streams afresh.");
  for (size_t i = 0; i < streams.next_token.size(); ++i) {
    const int64_t expected = loader_->first_token_of(progress_.samples + static_cast<int64_t>(i));
    require<DataError>(streams.next_token[i] == expected, step_dir, ": stream ", i, " goes on at token ",
                       streams.next_token[i], ", with this data and config it would at ", expected,
                       " (its state would meet another text). Resume with the data, seed, batch and context "
                       "of the run.");
  }
  restore_streams(streams.tensors, streams.position, config_, *model_, *step_);
}

void Trainer::save() {
  const CarriedStreams streams = carried_streams();
  if (is_first_rank()) {
    const Tokenizer& tokenizer = data_->split().tokenizer();
    const std::string kind = tokenizer.kind();
    const std::string dir = write_checkpoint(
        config_.run_dir + "/checkpoints",
        {model_->parameters(), optimizer_->first_moments(), optimizer_->second_moments(), progress_,
         to_yaml(fields_of(config_)), kind, kind == "byte" ? std::string() : tokenizer.serialized(), streams},
        config_.train.keep);
    log_debug(cat("saved ", dir));
  }
  mesh_->host().barrier();
}

}  // namespace fwl
