// How threads and ranks wait for each other: passively (asleep), or spinning. On cores that are shared, with
// other programs, with more ranks than cores or under a CPU quota, a thread that spins takes the time of the
// one that it waits for; training is then 2 to 8 times slower than with one thread. OpenMP's library reads
// its environment while it is loaded, before main(): the program therefore starts itself once more with the
// variables set.
//
// $FWL_WAIT: auto (from load, quota, ranks and cores), passive or active. What the user said to the libraries
// themselves stays (OMP_WAIT_POLICY, GOMP_SPINCOUNT, KMP_BLOCKTIME, OMPI_MCA_mpi_yield_when_idle).
#pragma once

#include <string>

namespace fwl {

// kPassive: sleeps at once. kBrief: spins for some hundred microseconds, then sleeps. kActive: as the
// libraries do by themselves, which is some 10 ms in OpenMP.
enum class Waiting { kPassive, kBrief, kActive };

struct WaitFacts {
  int threads = 1;         // of this process
  int ranks = 1;           // of this host
  int cpus = 1;            // that this process may run on
  int cpus_of_ranks = 1;   // that all ranks of the host have together
  double quota = 1e9;      // CPUs' worth of time that the cgroups allow
  double others_busy = 0;  // cores' worth of work that other programs have
};

struct WaitChoice {
  Waiting how = Waiting::kActive;
  std::string why;
};

// `setting`: a value of $FWL_WAIT. Throws ConfigError for another word.
WaitChoice choose_waiting(const std::string& setting, const WaitFacts& facts);

// The first thing that a program which computes does: chooses, and starts the program again (exec: same
// process, same arguments, signals that are blocked stay so) when OpenMP must be told. `ranks`: of this host.
// Throws ConfigError for a bad $FWL_WAIT or OMP_NUM_THREADS.
void settle_waiting(int ranks, char** argv);

// Whether waits in this program should sleep at once.
bool waits_passively();
// "waiting passively (other programs use 1.0 of 2 cores)".
std::string describe_waiting();

}  // namespace fwl
