#include "launch/rescue.h"

#include <chrono>
#include <filesystem>

#include "core/base/error.h"
#include "core/base/log.h"
#include "launch/signals.h"

namespace fwl {
namespace {

constexpr std::chrono::milliseconds kIdle(20);
constexpr std::chrono::milliseconds kBusy(2);

}  // namespace

Rescue::Rescue(std::string checkpoints_dir, Retention retention, int rank, Newest newest)
    : dir_(std::move(checkpoints_dir)),
      retention_(retention),
      rank_(rank),
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
  try {
    while (!ending_ && stop_signal().empty()) std::this_thread::sleep_for(kIdle);
    while (!ending_) {
      take_newest();
      if (step_ && !written_) write_own_part();
      if (written_ && rank_ == 0 && !published_) publish_when_complete();
      std::this_thread::sleep_for(kBusy);
    }
  } catch (const std::exception& error) {
    log_debug(cat("the newest finished step was not saved at once: ", error.what()));
  }
}

void Rescue::take_newest() {
  std::optional<FinishedStep> newer = newest_(step_ ? step_->info.progress.step : 0);
  if (!newer) return;
  step_ = std::move(newer);
  written_ = published_ = false;
  if (rank_ == 0) prepare_checkpoint(dir_, step_->info.progress.step);
}

// Once rank 0 has made the folder.
void Rescue::write_own_part() {
  const std::string folder = writing_dir_of(dir_, step_->info.progress.step);
  if (!std::filesystem::is_directory(folder)) return;
  write_part(folder, rank_, step_->blocks);
  written_ = true;
}

void Rescue::publish_when_complete() {
  const std::string folder = writing_dir_of(dir_, step_->info.progress.step);
  for (int rank = 0; rank < step_->info.layout.ranks; ++rank)
    if (!std::filesystem::exists(folder + "/" + part_index_name(rank))) return;
  published_ = true;
  publish_checkpoint(dir_, step_->info, retention_);
  log_info(cat("saved step ", step_->info.progress.step, " at once, while the next one is computed"));
}

}  // namespace fwl
