#include "launch/rescue.h"

#include <chrono>
#include <filesystem>

#include "core/base/error.h"
#include "core/base/log.h"
#include "launch/signals.h"
#include "parallel/failure.h"

namespace fwl {
namespace {

constexpr std::chrono::milliseconds kIdle(20);
constexpr std::chrono::milliseconds kBusy(2);

}  // namespace

Rescue::Rescue(std::string checkpoints_dir, Retention retention, int rank, Checkpointer& saver, Newest newest)
    : dir_(std::move(checkpoints_dir)),
      retention_(retention),
      rank_(rank),
      saver_(saver),
      newest_(std::move(newest)),
      thread_([this] { work(); }) {}

Rescue::~Rescue() {
  end();
}

void Rescue::end() {
  ending_ = true;
  if (thread_.joinable()) thread_.join();
}

// A failure here costs nothing: the save at the step's end is still to come.
void Rescue::work() {
  while (!ending_ && stop_signal().empty()) std::this_thread::sleep_for(kIdle);
  for (; !ending_; std::this_thread::sleep_for(kBusy)) {
    try {
      save_newest();
    } catch (const std::exception& error) {
      stage_ = Stage::kDone;  // with this step
      log_debug(cat("the newest finished step was not saved at once: ", error.what()));
    }
  }
}

void Rescue::save_newest() {
  if (rank_ == 0 && !saver_.publish_if_whole()) return;
  take_newest();
  if (stage_ == Stage::kTaken) write_own_part();
  if (stage_ == Stage::kWritten && rank_ == 0) publish_when_complete();
}

void Rescue::take_newest() {
  std::optional<FinishedStep> newer = newest_(step_ ? step_->info.progress.step : 0);
  if (!newer) return;
  step_ = std::move(newer);
  stage_ = Stage::kDone;  // where its folder cannot be made
  const auto make_folder = [this] { prepare_checkpoint(dir_, step_->info.progress.step); };
  if (rank_ == 0 && !saver_.while_none_is_under_way(make_folder)) return step_.reset();
  stage_ = Stage::kTaken;
}

// Once rank 0 has made the folder.
void Rescue::write_own_part() {
  const std::string folder = writing_dir_of(dir_, step_->info.progress.step);
  if (!std::filesystem::is_directory(folder)) return;
  write_part(folder, rank_, step_->blocks);
  stage_ = Stage::kWritten;
}

void Rescue::publish_when_complete() {
  if (!has_all_parts(dir_, step_->info)) return;
  saver_.while_none_is_under_way([&] {
    if (!has_all_parts(dir_, step_->info)) return;  // a save has begun and ended meanwhile
    const FinishFirst whole;
    publish_checkpoint(dir_, step_->info, retention_);
    log_info(cat("saved step ", step_->info.progress.step, " at once, while the next one is computed"));
    stage_ = Stage::kDone;
  });
}

}  // namespace fwl
