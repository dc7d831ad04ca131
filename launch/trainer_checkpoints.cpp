// What a trainer keeps of its run, and how it goes on from it.
#include <chrono>
#include <utility>

#include "checkpoints/finite.h"
#include "core/base/device.h"
#include "core/base/error.h"
#include "core/base/hash.h"
#include "core/base/log.h"
#include "launch/carried_size.h"
#include "launch/carried_state.h"
#include "launch/owned_blocks.h"
#include "launch/resume.h"
#include "launch/run_identity.h"
#include "launch/run_room.h"
#include "launch/trainer.h"
#include "parallel/launcher.h"

namespace fwl {
namespace {

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

// Where the launcher leaves a stopped run no time. A save that has begun is always brought to its end.
void Trainer::prepare_rescue() {
  const std::string too_soon = kills_too_soon(process_environment());
  if (too_soon.empty()) return;
  const std::string only_saves =
      rescues_steps() ? std::string()
                      : cat(" What was trained since the last save is lost then: ",
                            device_.is_cuda() ? "on a GPU" : "with train.stream",
                            " a finished step cannot be saved while the next one is computed.");
  if (is_first_rank()) log_warn(too_soon + only_saves);
  rescue_ = std::make_unique<Rescue>(
      config_.run_dir + "/checkpoints", Retention{config_.checkpoints.keep, config_.checkpoints.keep_every},
      mesh_->host().rank(), *checkpointer_, [this](int64_t after) { return newest_finished_step(after); });
}

// On a GPU the host is ahead of the device, and steps are short; with train.stream the carried state changes
// in the middle of a step.
bool Trainer::rescues_steps() const {
  return !device_.is_cuda() && !config_.train.stream;
}

// In the rescue's thread. Nothing of a run that diverges.
std::optional<Rescue::FinishedStep> Trainer::newest_finished_step(int64_t after) {
  if (!rescues_steps()) return std::nullopt;
  const std::unique_lock lock(state_, std::chrono::milliseconds(5));
  if (!lock || progress_.step <= std::max(after, last_saved_step_)) return std::nullopt;
  if (progress_.skipped_in_a_row > 0 || !is_last_loss_finite_) return std::nullopt;
  const at::NoGradGuard no_grad;
  Rescue::FinishedStep step{checkpoint_info(), owned_weights()};
  if (!is_sound(step.blocks)) return std::nullopt;
  for (SliceBlock& block : step.blocks) block.elements = block.elements.clone();
  return step;
}

// Collective over the world.
void Trainer::check_run_folder() {
  const TimeoutScope disk(mesh_->host(), config_.checkpoints.timeout_s);
  const std::string checkpoints_dir = config_.run_dir + "/checkpoints";
  on_all_ranks(mesh_->host(), [&] {
    if (!is_first_rank()) return;
    check_whose_folder();
    require_writable(checkpoints_dir);
  });
  require_shared(checkpoints_dir, mesh_->host());
}

// Rank 0. What a start left that was ended before its first checkpoint is no run that could be mixed up: it
// goes aside.
void Trainer::check_whose_folder() {
  const std::string& from = config_.train.resume;
  begins_run_ = from == "none";
  if (from != "none" && from != "auto") {
    const bool is_same = with_checkpoint(from, [&](const std::string& step_dir) {
      return is_of_run(read_checkpoint_info(step_dir), config_.run_dir);
    });
    begins_run_ = !is_same;
    require<ConfigError>(
        is_same || list_checkpoints(config_.run_dir + "/checkpoints").empty(), "run.dir '", config_.run_dir,
        "' holds a run, and train.resume = '", from,
        "' is of another one (their checkpoints and logs would be mixed, and checkpoints.keep would "
        "delete them). Choose another run.dir for the new run, or train.resume=auto to go on with the one "
        "that is there.");
  }
}

// Of weights, moments and carried streams, with what HDF5 and the manifest need for each tensor.
int64_t Trainer::checkpoint_bytes() {
  constexpr int64_t kPerTensor = 512, kPerCheckpoint = 16 << 10;
  const Parameters& parameters = step_->model().parameters();
  const auto element = static_cast<int64_t>(at::elementSize(step_->model().accumulation_type()));
  const int64_t streams = config_.train.stream ? carried_elements(config_) : 0;
  return 3 * (element * parameters.count() + kPerTensor * static_cast<int64_t>(parameters.all().size())) +
         element * streams + kPerCheckpoint;
}

// What cannot be saved later is refused now.
void Trainer::check_room() {
  if (!is_first_rank()) return;
  const std::string dir = config_.run_dir + "/checkpoints";
  const int64_t left = config_.train.steps - progress_.step, every = config_.train.save_every;
  if (left <= 0) return;
  const int64_t keep_every = config_.checkpoints.keep_every;
  require_room(dir, checkpoint_bytes());
  const Retention retention{config_.checkpoints.keep, keep_every};
  warn_of_little_room(dir, checkpoint_bytes(),
                      most_kept(retention, every > 0 ? (left + every - 1) / every : 1,
                                keep_every > 0 ? left / keep_every : 0));
}

std::string Trainer::newest_checkpoint() const {
  const auto all = list_checkpoints(config_.run_dir + "/checkpoints");
  return all.empty() ? std::string() : all.front();
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
  require<DataError>(is_sound("weights/", parameters.gradients()) && is_sound("", own.first_moments()) &&
                         is_sound("", own.second_moments()),
                     reader.path(),
                     ": its weights or moments are not finite (the run had diverged when it was "
                     "saved). Use an earlier checkpoint.");
  if (config_.train.stream) restore_carried_streams(reader);
}

void Trainer::resume(ConfigChanges changes) {
  const Tokenizer& tokenizer = data_->split().tokenizer();
  const std::string kind = tokenizer.kind();
  const DataIdentity data{loader_->sequence_hash(), kind,
                          kind == "byte" ? std::string() : tokenizer.serialized()};
  const TimeoutScope disk(mesh_->host(), config_.checkpoints.timeout_s);
  const auto info =
      resume_from(config_.train.resume, config_.run_dir + "/checkpoints",
                  {[&](const CheckpointInfo& stored) { check_resume(stored, config_, data, changes); },
                   [&](CheckpointReader& reader) { load(reader); }},
                  mesh_->host());
  // Rank 0's is the one that is stored.
  config_.run_id = info && is_first_rank() && is_of_run(*info, config_.run_dir) ? run_id_of(*info) : "";
  if (config_.run_id.empty()) config_.run_id = new_run_id();
  if (!info) return;
  progress_ = info->progress;
  progress_.order_hash = info->data.rolling_hash;
  step_->optimizer().own().set_updates(progress_.updates);
}

// Collective over the world. Why what there is now must not be saved; empty when it may.
std::string Trainer::unsound(const std::vector<SliceBlock>& blocks) {
  if (progress_.skipped_in_a_row > 0)
    return cat(progress_.skipped_in_a_row,
               " steps in a row had a non-finite loss or gradient and were skipped");
  if (!is_last_loss_finite_) return "the last step's loss is not finite";
  const Vote vote = is_sound(blocks) ? Vote::kYes : Vote::kNo;
  if (all_agree(mesh_->host(), vote)) return {};
  return cat("weights", config_.train.stream ? ", moments or carried states" : " or moments",
             " are not finite");
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
  RunConfig stored = stored_form(config_);
  info.config_yaml = to_yaml(fields_of(stored));
  info.is_finite = true;  // whoever saves has seen to it
  info.tokenizer_kind = tokenizer.kind();
  if (info.tokenizer_kind != "byte") info.tokenizer_bytes = tokenizer.serialized();
  return info;
}

std::vector<SliceBlock> Trainer::owned_weights() {
  return owned_blocks(step_->model().parameters(), step_->optimizer(), mesh_->host().rank(),
                      mesh_->host().size());
}

// Collective over the mesh's sequence axis with train.stream.
std::vector<SliceBlock> Trainer::owned_with_streams() {
  std::vector<SliceBlock> blocks = owned_weights();
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

// Where everything is left out, nothing is learned.
void Trainer::require_text() const {
  require<DataError>(
      labels_read_ > 0 || progress_.tokens == tokens_before_, "all text that was read up to step ",
      progress_.step,
      " is damaged and was left out (data.skip_bad; nothing was learned, and nothing was saved). "
      "Run `fwl data check`, and make the data set again or put good copies of its files back.");
}

// No checkpoint of a run that diverges: in time those from before would go for it.
void Trainer::save() {
  const TimeoutScope disk(mesh_->host(), config_.checkpoints.timeout_s);
  if (rescue_ && stop_) {
    rescue_->end();
    mesh_->host().barrier();  // no rank writes into a folder that rank 0 now removes
  }
  const std::vector<SliceBlock> blocks = owned_with_streams();
  unsound_ = unsound(blocks);
  if (unsound_.empty()) {
    last_saved_step_ = progress_.step;
    return checkpointer_->begin(checkpoint_info(), blocks);
  }
  if (is_first_rank()) log_warn(cat("no checkpoint of step ", progress_.step, ": ", unsound_, "."));
}

}  // namespace fwl
