// What the doctor judges. Pure functions of the facts of all ranks, so that a test can describe any cluster.
#pragma once

#include <string>
#include <vector>

#include "launch/doctor/facts.h"

namespace fwl {

enum class Verdict { kOk, kWarning, kFailed };
const char* name_of(Verdict verdict);

struct Check {
  std::string name;
  Verdict verdict = Verdict::kOk;
  std::string detail;              // what was seen; of a failure: also what to do
  std::vector<std::string> hosts;  // at fault, sorted
};

// "a, b, c"
std::string joined(const std::vector<std::string>& parts);

// Build, config and libraries: all ranks the same. Those that differ from the most frequent one are at fault.
Check check_same_binary(const std::vector<RankFacts>& ranks);
Check check_same_config(const std::vector<RankFacts>& ranks);
Check check_same_libraries(const std::vector<RankFacts>& ranks);
// Every rank has a GPU of its own, or none has one.
Check check_gpus(const std::vector<RankFacts>& ranks);
// Ranks of one host run on cores of their own, near their GPU; sharing is a warning.
Check check_cores(const std::vector<RankFacts>& ranks);
// Space in /dev/shm, which MPI and NCCL use between the ranks of a host; too little is a warning.
Check check_shared_memory(const std::vector<RankFacts>& ranks);
// How many files the process with the lowest limit may have open; few are a warning.
Check check_open_files(const std::vector<RankFacts>& ranks);

// What a rank found out by itself (connections, folder, computing): empty text for "all well".
struct RankProblem {
  std::string host, text;
};
// `fine` is the detail when nobody has a problem; `advice` follows the problems of the first ranks.
Check check_of_problems(const std::string& name, const std::vector<RankProblem>& problems,
                        const std::string& fine, const std::string& advice);

}  // namespace fwl
