// How many threads this process may use: what the CPUs that it may run on, the CPU time that its cgroups
// allow, the other ranks of its host and OMP_NUM_THREADS leave. A container's limit is a quota of time, not a
// set of CPUs: threads beyond it stop each other.
#pragma once

#include <string>

namespace fwl {

// CPUs that this process may run on (its affinity); at least 1.
int allowed_cpus();

// CPUs' worth of time that the tightest of this process's cgroups allows (versions 1 and 2, from its own up
// to the mount's top); infinity without a quota. `root` stands before /proc and /sys: a test's own tree.
double cpu_quota(const std::string& root = "");

// Threads for each of `ranks` processes that share `cpus` and `quota`: min(cpus, ceil(quota)) / ranks, at
// least 1.
int thread_share(int cpus, double quota, int ranks);

// The first number of OMP_NUM_THREADS; 0 when it is unset or empty. Throws ConfigError for what is no list of
// numbers of at least 1.
int threads_asked_for();

// Threads of each of `ranks` processes of this host: OMP_NUM_THREADS, or this process's share.
int threads_for(int ranks);

// Lets LibTorch use threads_for(local_ranks) threads. Returns what was decided, for the log: "2 threads (of 2
// cores), waiting passively (...)".
std::string set_thread_count(int local_ranks);

}  // namespace fwl
