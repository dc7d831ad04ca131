// The newest finished step, saved at once when a stop signal comes, while the next one is still computed: for
// launchers that kill their ranks a second later (a plain mpirun), before a longer step and the save after it
// are done.
//
// One object and thread a rank; no thread communicates. A save that has begun is published as soon as all its
// parts lie there. After that every rank writes its part of the newest finished step, where one is newer,
// into the folder that rank 0 made for it, and rank 0 publishes once all parts lie there. Ranks that are a
// step apart for a moment write again when theirs moves on. The save in good order at the step's end comes
// after end(), and replaces nothing that is newer.
#pragma once

#include <atomic>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "checkpoints/checkpoint.h"
#include "launch/checkpointing.h"

namespace fwl {

class Rescue {
 public:
  struct FinishedStep {
    CheckpointInfo info;
    std::vector<SliceBlock> blocks;  // copies in host memory
  };
  // Called in the thread: the newest finished step when it is newer than `step` and no save of it was begun;
  // waits no longer than some ms. Nothing where steps can only be saved at their end.
  using Newest = std::function<std::optional<FinishedStep>(int64_t step)>;

  // `saver` outlives this object.
  Rescue(std::string checkpoints_dir, Retention retention, int rank, Checkpointer& saver, Newest newest);
  // As end().
  ~Rescue();
  Rescue(const Rescue&) = delete;
  Rescue& operator=(const Rescue&) = delete;

  // Nothing is written after it returns; what is being written is finished first.
  void end();

 private:
  enum class Stage { kNothing, kTaken, kWritten, kDone };  // of step_

  void work();
  void save_newest();
  void take_newest();
  void write_own_part();
  void publish_when_complete();

  std::string dir_;
  Retention retention_;
  int rank_;
  Checkpointer& saver_;
  Newest newest_;
  std::optional<FinishedStep> step_;
  Stage stage_ = Stage::kNothing;
  std::atomic<bool> ending_ = false;
  std::thread thread_;
};

}  // namespace fwl
