#include "launch/checkpointing.h"

#include <algorithm>
#include <filesystem>

#include "core/base/error.h"
#include "core/base/log.h"
#include "launch/run_room.h"
#include "parallel/failure.h"

namespace fwl {
namespace {

// Runs `work` in a thread; any exception becomes its text.
template <typename Work>
std::future<std::string> start(Work work) {
  return std::async(std::launch::async, [work = std::move(work)]() -> std::string {
    try {
      work();
      return {};
    } catch (const std::exception& error) {
      return error.what();
    }
  });
}

bool is_ready(const std::future<std::string>& future) {
  return future.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
}

// Pinned memory lets the copy from a GPU run at the bus's full speed.
Tensor host_like(const Tensor& t) {
  return at::empty(t.sizes(), at::TensorOptions().dtype(t.scalar_type()).pinned_memory(t.is_cuda()));
}

}  // namespace

bool has_all_parts(const std::string& checkpoints_dir, const CheckpointInfo& info) {
  const std::string folder = writing_dir_of(checkpoints_dir, info.progress.step);
  for (int rank = 0; rank < info.layout.ranks; ++rank) {
    std::error_code unknown;
    if (!std::filesystem::exists(folder + "/" + part_index_name(rank), unknown)) return false;
  }
  return true;
}

Checkpointer::Checkpointer(std::string checkpoints_dir, Retention retention, Mode mode, Communicator& group,
                           int64_t bytes, double timeout_s)
    : dir_(std::move(checkpoints_dir)),
      retention_(retention),
      mode_(mode),
      group_(group),
      bytes_(bytes),
      timeout_s_(timeout_s) {}

Checkpointer::~Checkpointer() {
  if (thread_.valid()) thread_.wait();
}

std::string Checkpointer::problem_of_preparing() {
  const std::lock_guard lock(folders_);
  try {
    prepare_checkpoint(dir_, info_.progress.step);
    require_room(dir_, bytes_);
    under_way_ = UnderWay{info_};
    return {};
  } catch (const Error& error) {
    return error.what();
  }
}

bool Checkpointer::prepare() {
  const std::string problem = group_.rank() == 0 ? problem_of_preparing() : std::string();
  if (all_agree(group_, problem.empty() ? Vote::kYes : Vote::kNo)) return true;
  if (!problem.empty()) warn(problem);
  published_ = false;
  return false;
}

// Unless the rescue was first.
void Checkpointer::publish() {
  const std::lock_guard lock(folders_);
  if (!under_way_) return;
  const FinishFirst whole;  // all of it is written: another rank's failure may not cost it
  publish_checkpoint(dir_, under_way_->info, retention_);
  under_way_.reset();
}

bool Checkpointer::publish_if_whole() {
  const std::lock_guard lock(folders_);
  if (!under_way_) return true;
  if (under_way_->was_tried || !has_all_parts(dir_, under_way_->info)) return false;
  under_way_->was_tried = true;
  const FinishFirst whole;
  publish_checkpoint(dir_, under_way_->info, retention_);
  log_info(cat("saved step ", under_way_->info.progress.step, " at once, while the next one is computed"));
  under_way_.reset();
  return true;
}

bool Checkpointer::while_none_is_under_way(const std::function<void()>& work) {
  const std::lock_guard lock(folders_);
  if (under_way_) return false;
  work();
  return true;
}

void Checkpointer::reserve(const std::vector<SliceBlock>& blocks) {
  host_.resize(std::max(host_.size(), blocks.size()));
  for (size_t i = 0; i < blocks.size(); ++i) {
    const Tensor& like = blocks[i].elements;
    if (!host_[i].defined() || host_[i].sizes() != like.sizes() ||
        host_[i].scalar_type() != like.scalar_type())
      host_[i] = host_like(like);
  }
}

std::vector<SliceBlock> Checkpointer::snapshot(const std::vector<SliceBlock>& blocks) {
  const at::NoGradGuard no_grad;
  reserve(blocks);
  std::vector<SliceBlock> copies;
  for (size_t i = 0; i < blocks.size(); ++i) {
    // Copies of one stream run in order: the last one from the GPU, which waits, ends them all.
    const bool more_to_come = i + 1 < blocks.size() && blocks[i + 1].elements.is_cuda();
    host_[i].copy_(blocks[i].elements, /*non_blocking=*/more_to_come);
    copies.push_back({host_[i], blocks[i].slices});
  }
  return copies;
}

void Checkpointer::begin(const CheckpointInfo& info, const std::vector<SliceBlock>& blocks) {
  const Clock::time_point called = Clock::now();
  const TimeoutScope disks_take_time(group_, timeout_s_);
  end_save();
  info_ = info;
  begun_ = called;
  if (prepare()) {
    phase_ = Phase::kWriting;
    outcome_.reset();
    thread_ = start([dir = writing_dir_of(dir_, info.progress.step), rank = group_.rank(),
                     copies = snapshot(blocks)] { write_part(dir, rank, copies); });
  }
  if (mode_ == Mode::kSynchronous) {
    end_save();
    group_.barrier();  // here, not in the next step, the others wait for what rank 0 publishes
  }
  blocked_s_ = blocked_s_.value_or(0) + std::chrono::duration<double>(Clock::now() - called).count();
}

Checkpointer::Status Checkpointer::status() {
  if (phase_ != Phase::kWriting) return {};
  if (!outcome_ && is_ready(thread_)) outcome_ = thread_.get();
  if (!outcome_) return {1, 0};
  return {0, outcome_->empty() ? 0.0 : 1.0};
}

void Checkpointer::advance(const Status& sums) {
  if (phase_ == Phase::kWriting && sums.busy == 0) end_writing(sums.failed);
  if (phase_ == Phase::kPublishing && is_ready(thread_)) end_publishing();
}

// All ranks have written, or failed to.
void Checkpointer::end_writing(double failed_ranks) {
  phase_ = Phase::kIdle;
  if (!outcome_->empty()) warn(*outcome_);
  if (group_.rank() != 0) return;
  phase_ = Phase::kPublishing;
  published_ = false;
  if (failed_ranks > 0) {
    // Its space goes back at once: a full disk may be why it failed.
    thread_ = start([this, warned = *outcome_]() {
      const std::lock_guard lock(folders_);
      under_way_.reset();
      remove_unfinished(dir_);
      require<DataError>(!warned.empty(), "another rank could not write its part.");
    });
  } else {
    thread_ = start([this] { publish(); });
  }
}

void Checkpointer::end_publishing() {
  phase_ = Phase::kIdle;
  const Outcome outcome = thread_.get();
  if (!outcome.empty()) {
    const std::lock_guard lock(folders_);
    under_way_.reset();
    return warn(outcome);
  }
  published_ = outcome_->empty();
  if (!published_) return;
  written_s_ = std::chrono::duration<double>(Clock::now() - begun_).count();
  log_debug(cat("checkpoint of step ", info_.progress.step, " written in ", *written_s_, " s"));
}

// Of this rank's thread. A rank that is gone or stopped meanwhile ends the job, whatever the disk does.
void Checkpointer::wait_for_thread(const char* what) {
  group_.wait_for_own(what, [this] { return is_ready(thread_); });
}

void Checkpointer::end_save() {
  if (phase_ == Phase::kWriting) {
    if (!outcome_) wait_for_thread("writing this rank's part of a checkpoint");
    if (!outcome_) outcome_ = thread_.get();
    end_writing(all_reduce_scalar_sum(group_, outcome_->empty() ? 0.0 : 1.0));
  }
  if (phase_ == Phase::kPublishing) {
    wait_for_thread("publishing a checkpoint");
    end_publishing();
  }
}

bool Checkpointer::finish() {
  const TimeoutScope disks_take_time(group_, timeout_s_);
  end_save();
  return all_agree(group_, group_.rank() != 0 || published_ ? Vote::kYes : Vote::kNo);
}

std::optional<double> Checkpointer::take_blocked_s() {
  return std::exchange(blocked_s_, std::nullopt);
}

std::optional<double> Checkpointer::take_written_s() {
  return std::exchange(written_s_, std::nullopt);
}

void Checkpointer::warn(const Outcome& outcome) const {
  std::vector<std::string> whole;
  try {
    whole = list_checkpoints(dir_);
  } catch (const UnavailableError&) {  // the outcome says enough
  }
  log_warn(cat("checkpoint of step ", info_.progress.step, " was not written: ", outcome,
               " Training goes on; the newest complete checkpoint is ",
               whole.empty() ? "none" : "'" + whole.front() + "'", "."));
}

}  // namespace fwl
