// What a training run says of itself: JSON lines in the run's folder (all of it, rank 0), the same as
// TensorBoard events, one line an interval on the terminal, and a progress bar with the time left when the
// terminal is one.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "launch/tensorboard/event_file.h"

namespace fwl {

// One logged interval.
struct LogEntry {
  int64_t step = 0;    // steps done
  int64_t tokens = 0;  // read so far over all ranks
  double loss = 0;     // nats per token over the interval, of the pass that is trained
  double loss_slow = 0;
  double grad_norm = 0;  // of the interval's last step, before clipping
  double learning_rate = 0;
  double tokens_per_s = 0;
  double time_s = 0;  // since the program's start of training
  int64_t skipped = 0;
  std::optional<double> save_blocked_s;  // that training waited for saves in the interval, when one was begun
  std::optional<double> save_written_s;  // from begin to published, of a save published in it
  double data_wait = 0;                  // share of the interval that this rank waited for data
  std::string order_hash;                // rolling hash of all samples read so far, hexadecimal
  int64_t documents_left_out = 0;        // by this rank, since the program's start (data.skip_bad)
  std::vector<std::pair<std::string, double>> step_sizes;
  std::vector<std::pair<std::string, double>> decays;
  std::vector<std::pair<std::string, double>> state_norms, fast_to_slow;   // of the interval's last step
  std::vector<std::pair<std::string, std::vector<float>>> step_size_rows;  // one by one; events alone
  std::optional<int64_t> total_steps;                                      // of the whole run
  std::optional<double> communication;       // share of the interval that this rank waited for transfers
  std::optional<int64_t> peak_memory_bytes;  // since the program's start; the rank with the most
  // Seconds of the interval that the others waited for a rank; the ranks with the most.
  std::vector<std::pair<int, double>> rank_lag_s;
};

// How a run ended that did not come to its last step, or to its last checkpoint.
struct EarlyEnd {
  int64_t step = 0;
  std::string how;  // "stopped", "diverged", "not saved"
  std::string why;
  std::string checkpoint;  // the newest that can be gone on from; empty: none
};

enum class EventLog { kOff, kTensorBoard };

class RunLog {
 public:
  // Appends to RUN/log.jsonl after removing entries of steps beyond `resumed_step` (they will be logged
  // again). Throws DataError when the file cannot be written.
  RunLog(const std::string& run_dir, int64_t resumed_step, int64_t total_steps, EventLog events);
  // The first line that this process writes also holds `program`: what wrote it (parallel/software.h).
  // A line that cannot be written (disk full) is a warning; it is tried again with the next one.
  void write(const LogEntry& entry);
  // The last line of the file, until the run goes on.
  void write_end(const EarlyEnd& end);
  // Redraws the progress bar at most a few times a second.
  void progress(int64_t step);

 private:
  std::string bar(int64_t step) const;
  bool append_pending();
  void write_events(const LogEntry& entry);
  std::string path_;
  std::string pending_;  // lines not yet in the file
  int64_t first_step_, total_steps_;
  bool terminal_;
  std::chrono::steady_clock::time_point start_, drawn_;
  std::optional<EventFile> events_;
  bool names_program_ = true;  // with the first line that this process writes
};

}  // namespace fwl
