// Whether another process of the job still lives, as far as this one can know: from /proc, which shows the
// processes of one PID namespace of one machine. Two ranks on equally named hosts, or in containers of one
// host, do not see each other there, and that says nothing about their lives.
#pragma once

#include <cstdint>

namespace fwl {

struct ProcessPlace {
  uint64_t boot = 0;         // hash of the machine's boot id; 0: unknown
  uint64_t pid_space = 0;    // inode of the PID namespace that this process' /proc shows; 0: unknown
  uint64_t net_space = 0;    // inode of the network namespace; 0: unknown
  uint64_t start_ticks = 0;  // when it was started: a later process of the same number has another
  int32_t pid = 0;
};

ProcessPlace own_process_place();

enum class ProcessState { kUnknown, kRuns, kStopped, kGone };
// `other` seen by a process at `own`. kGone means for certain: the same /proc shows that it has ended.
// Everything that could have another reason (no right to look, too many open files) is kUnknown.
ProcessState process_state(const ProcessPlace& other, const ProcessPlace& own);
// Whether 127.0.0.1 of both is the same.
bool same_loopback(const ProcessPlace& a, const ProcessPlace& b);

}  // namespace fwl
