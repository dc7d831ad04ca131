// How one rank's failure ends the job: it is said, written down and told to the other ranks where it is born,
// and from then on this process has some seconds left, whatever it waits for (destructors wait for disks). So
// nobody waits for a rank that has failed, and the first failing rank's exit code is the job's.
#pragma once

#include <string>

namespace fwl {

// Logs `message` (once, when it is the same again), writes the verdict, tells all other ranks, and arms the
// end of this process: it exits with `exit_code` two seconds after the grace unless it has ended by then.
// Local. The first failure counts: after another rank's, or an earlier one here, it only logs. With one rank
// nothing is armed.
void report_failure(int exit_code, const std::string& message) noexcept;
// What the others have, after a failure, to finish what is nearly whole (FinishFirst) and to end by
// themselves; then they are ended.
inline constexpr double kFailureGrace_s = 4;

// The verdict: one line "CODE rank R: MESSAGE" in the new file $FWL_VERDICT, for scripts whose launcher gives
// codes of its own (srun returns the largest of all ranks'). Without the variable, or when the file is there
// already, nothing is written.
void write_verdict(int exit_code, int rank, const std::string& message) noexcept;

// While one lives, an end of the job that is armed in this process waits for it, kFailureGrace_s at most: a
// checkpoint that all ranks have written, while rank 0 publishes it.
class FinishFirst {
 public:
  FinishFirst();
  ~FinishFirst();
  FinishFirst(const FinishFirst&) = delete;
  FinishFirst& operator=(const FinishFirst&) = delete;
};

// Ends this process with `exit_code` at once, or as soon as no FinishFirst lives, at most kFailureGrace_s
// later. Runs no destructors.
[[noreturn]] void exit_when_finished(int exit_code) noexcept;

}  // namespace fwl
