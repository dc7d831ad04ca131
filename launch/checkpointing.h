// Saving while training goes on. A save copies what this rank owns to host memory (training waits for that
// alone) and starts a thread that writes it; the ranks learn through the sums of later steps when all have
// written, and then rank 0's thread publishes the checkpoint. No thread communicates.
//
// A run that is about to be killed has no later steps: then rank 0's rescue publishes what is whole.
//
// A save that fails is a warning on the rank that failed; the checkpoints that were there stay whole.
#pragma once

#include <chrono>
#include <functional>
#include <future>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "checkpoints/checkpoint.h"
#include "parallel/communicator.h"

namespace fwl {

// Whether all ranks have written their parts of it.
bool has_all_parts(const std::string& checkpoints_dir, const CheckpointInfo& info);

class Checkpointer {
 public:
  enum class Mode { kSynchronous, kAsynchronous };

  // `group` is of host tensors, over all ranks, and outlives this object. `bytes`: of a whole checkpoint; a
  // save for which the disk has no room is not begun.
  Checkpointer(std::string checkpoints_dir, Retention retention, Mode mode, Communicator& group,
               int64_t bytes = 0, double timeout_s = 3600);
  // Waits for this rank's thread; does not communicate.
  ~Checkpointer();
  Checkpointer(const Checkpointer&) = delete;
  Checkpointer& operator=(const Checkpointer&) = delete;

  // Allocates the host memory that such blocks will need: pinning gigabytes takes seconds, which the first
  // save need not wait for.
  void reserve(const std::vector<SliceBlock>& blocks);

  // Collective over the group. Begins to save; first ends the save before it. `blocks` is what this rank
  // owns, on any device, and may change when the call returns. A save that cannot begin is a warning.
  void begin(const CheckpointInfo& info, const std::vector<SliceBlock>& blocks);

  // Two numbers for a sum over all ranks that each step makes anyway, and what to do with the sums.
  struct Status {
    double busy = 0;
    double failed = 0;
  };
  Status status();
  void advance(const Status& sums);

  // For rank 0's rescue (rescue.h), in a thread of its own. Publishes the save under way when all parts of it
  // lie there, before a later step's sums say so. Whether none is under way then. Throws DataError once, and
  // leaves the save to the steps to come.
  bool publish_if_whole();
  // Runs `work`, during which no save begins. False, without running it, when one is under way.
  bool while_none_is_under_way(const std::function<void()>& work);

  // Collective over the group. Waits until the last save is published or has failed. Whether it was
  // published, the same on all ranks; true when there was none.
  bool finish();

  // Seconds that training waited for saves since the last call; nothing when no save was begun.
  std::optional<double> take_blocked_s();
  // From begin to published, of a save that was published since the last call; rank 0.
  std::optional<double> take_written_s();

 private:
  using Clock = std::chrono::steady_clock;
  // What one thread does; its failure as text.
  using Outcome = std::string;
  enum class Phase { kIdle, kWriting, kPublishing };

  // What lies in a folder that is not published yet; rank 0.
  struct UnderWay {
    CheckpointInfo info;
    bool was_tried = false;  // to publish it early
  };

  std::string problem_of_preparing();
  bool prepare();
  void publish();
  std::vector<SliceBlock> snapshot(const std::vector<SliceBlock>& blocks);
  void end_writing(double failed_ranks);
  void end_publishing();
  void end_save();
  void wait_for_thread(const char* what);
  void warn(const Outcome& outcome) const;

  std::string dir_;
  Retention retention_;
  Mode mode_;
  Communicator& group_;
  int64_t bytes_;
  double timeout_s_;
  Phase phase_ = Phase::kIdle;
  CheckpointInfo info_;  // of the save under way
  std::mutex folders_;   // held to make, publish or remove unfinished checkpoints, and for under_way_
  std::optional<UnderWay> under_way_;
  std::future<Outcome> thread_;
  std::optional<Outcome> outcome_;  // of writing, once the thread has ended
  bool published_ = true;           // the last save; rank 0
  std::vector<Tensor> host_;        // reused from save to save; pinned for a GPU
  Clock::time_point begun_;
  std::optional<double> blocked_s_, written_s_;
};

}  // namespace fwl
