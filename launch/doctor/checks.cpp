#include "launch/doctor/checks.h"

#include <algorithm>
#include <functional>
#include <map>
#include <set>

#include "core/base/error.h"

namespace fwl {
namespace {

std::vector<std::string> sorted(const std::set<std::string>& names) {
  return {names.begin(), names.end()};
}

// The value that most ranks have; of equally frequent ones the one of the lowest rank.
template <typename Value>
std::string most_frequent(const std::vector<RankFacts>& ranks, const Value& value) {
  std::map<std::string, int> counts;
  for (const RankFacts& rank : ranks) ++counts[value(rank)];
  std::string best = value(ranks.front());
  for (const RankFacts& rank : ranks) {
    if (counts[value(rank)] > counts[best]) best = value(rank);
  }
  return best;
}

struct Deviation {
  std::string text;  // of the first rank that differs; empty: none does
  std::set<std::string> hosts;
};

Deviation deviation_of(const std::vector<RankFacts>& ranks, const std::string& what,
                       const std::function<std::string(const RankFacts&)>& value) {
  const std::string usual = most_frequent(ranks, value);
  Deviation found;
  for (const RankFacts& rank : ranks) {
    if (value(rank) == usual) continue;
    if (found.text.empty())
      found.text = cat("rank ", rank.rank, " on ", rank.host, " has ", what, " '", value(rank),
                       "', most have '", usual, "'");
    found.hosts.insert(rank.host);
  }
  return found;
}

Check same_on_all(const std::string& name, const Deviation& deviation, const std::string& fine,
                  const std::string& advice) {
  if (deviation.text.empty()) return {name, Verdict::kOk, fine, {}};
  return {name, Verdict::kFailed, deviation.text + " " + advice, sorted(deviation.hosts)};
}

std::map<std::string, std::vector<const RankFacts*>> by_host(const std::vector<RankFacts>& ranks) {
  std::map<std::string, std::vector<const RankFacts*>> hosts;
  for (const RankFacts& rank : ranks) hosts[rank.host].push_back(&rank);
  return hosts;
}

// Two ranks of one host with the same GPU, as text; empty: none.
std::string shared_gpu(const std::vector<const RankFacts*>& host) {
  std::map<std::string, int> owner;
  for (const RankFacts* rank : host) {
    const auto [found, is_new] = owner.emplace(rank->gpu_bus, rank->rank);
    if (!is_new) return cat("ranks ", found->second, " and ", rank->rank, " share the GPU ", rank->gpu_bus);
  }
  return {};
}

std::string core_warning(const std::vector<const RankFacts*>& host) {
  std::map<int, int> owner;
  for (const RankFacts* rank : host) {
    for (const int core : rank->cores) {
      const auto [found, is_new] = owner.emplace(core, rank->rank);
      if (!is_new) return cat("ranks ", found->second, " and ", rank->rank, " share core ", core);
    }
    const std::vector<int>& nodes = rank->numa_nodes;
    if (rank->gpu_numa_node >= 0 && std::count(nodes.begin(), nodes.end(), rank->gpu_numa_node) == 0)
      return cat("rank ", rank->rank, "'s GPU is on NUMA node ", rank->gpu_numa_node, ", its cores on ",
                 range_text(nodes));
  }
  return {};
}

}  // namespace

std::string joined(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : ", ") + part;
  return text;
}

const char* name_of(Verdict verdict) {
  return verdict == Verdict::kOk ? "ok" : verdict == Verdict::kWarning ? "warning" : "FAILED";
}

Check check_same_binary(const std::vector<RankFacts>& ranks) {
  const auto hash = [](const RankFacts& rank) { return rank.binary_hash; };
  return same_on_all(
      "program", deviation_of(ranks, "the program", hash), "hash " + hash(ranks.front()),
      "(ranks of different builds compute different things). Start the same file on all hosts.");
}

Check check_same_config(const std::vector<RankFacts>& ranks) {
  const auto hash = [](const RankFacts& rank) { return rank.config_hash; };
  const std::string fine = hash(ranks.front()).empty() ? "none was given" : "hash " + hash(ranks.front());
  return same_on_all("config", deviation_of(ranks, "the config", hash), fine,
                     "(ranks would train different models). Give the same file and settings to all ranks.");
}

Check check_same_libraries(const std::vector<RankFacts>& ranks) {
  std::set<std::string> names;
  for (const RankFacts& rank : ranks) {
    for (const auto& [name, version] : rank.libraries) names.insert(name);
  }
  for (const std::string& name : names) {
    const Deviation deviation = deviation_of(ranks, name, [&](const RankFacts& rank) {
      const auto found = rank.libraries.find(name);
      return found == rank.libraries.end() ? std::string("not loaded") : found->second;
    });
    if (!deviation.text.empty())
      return same_on_all("libraries", deviation, "",
                         "(versions that differ compute or communicate differently). Install the same on all "
                         "hosts.");
  }
  return {"libraries", Verdict::kOk, cat(names.size(), " libraries, the same on all ranks"), {}};
}

Check check_gpus(const std::vector<RankFacts>& ranks) {
  std::set<std::string> without;
  std::string first;
  bool any = false;
  for (const RankFacts& rank : ranks) {
    any = any || !rank.gpu.empty();
    if (!rank.gpu.empty()) continue;
    without.insert(rank.host);
    if (first.empty())
      first = cat("rank ", rank.rank, " on ", rank.host,
                  rank.gpu_problem.empty() ? " sees no GPU" : ": " + rank.gpu_problem);
  }
  const bool asked = std::any_of(ranks.begin(), ranks.end(),
                                 [](const RankFacts& rank) { return !rank.gpu_problem.empty(); });
  if (!any && !asked) return {"GPUs", Verdict::kOk, "none; all ranks compute on the CPU", {}};
  if (!without.empty())
    return {"GPUs", Verdict::kFailed,
            first + " (all ranks must compute on the same kind of device). Repair or leave out the host.",
            sorted(without)};
  for (const auto& [host, members] : by_host(ranks)) {
    const std::string shared = shared_gpu(members);
    if (!shared.empty())
      return {"GPUs", Verdict::kFailed, shared + " (each needs its own). Start one rank per GPU.", {host}};
  }
  const Deviation kind = deviation_of(ranks, "the GPU", [](const RankFacts& rank) { return rank.gpu; });
  if (!kind.text.empty())
    return {"GPUs", Verdict::kWarning, kind.text + " (the slowest sets the pace)", sorted(kind.hosts)};
  return {"GPUs", Verdict::kOk, cat("one per rank, ", ranks.front().gpu), {}};
}

Check check_cores(const std::vector<RankFacts>& ranks) {
  std::set<std::string> hosts;
  std::string first;
  for (const auto& [host, members] : by_host(ranks)) {
    const std::string warning = core_warning(members);
    if (warning.empty()) continue;
    if (first.empty()) first = cat(warning, " on ", host);
    hosts.insert(host);
  }
  if (hosts.empty()) return {"cores", Verdict::kOk, "every rank has cores of its own", {}};
  return {"cores", Verdict::kWarning,
          first +
              " (slower). Start as many ranks as there are cores or GPUs, with launch/mpirun.sh, which binds "
              "them.",
          sorted(hosts)};
}

Check check_open_files(const std::vector<RankFacts>& ranks) {
  constexpr int64_t kFew = 256;  // sockets to many ranks count too
  const RankFacts& fewest =
      *std::min_element(ranks.begin(), ranks.end(),
                        [](const RankFacts& a, const RankFacts& b) { return a.open_files < b.open_files; });
  const std::string text = cat("a process may have ", fewest.open_files, ", and reads ", fewest.data_files,
                               " data and checkpoint files at once");
  if (fewest.open_files >= kFew) return {"open files", Verdict::kOk, text, {}};
  return {"open files",
          Verdict::kWarning,
          text + " (slower with more shards). Raise the hard limit (ulimit -H -n).",
          {fewest.host}};
}

Check check_shared_memory(const std::vector<RankFacts>& ranks) {
  constexpr int64_t kNeededPerRank = int64_t{32} << 20;  // Open MPI's and NCCL's segments
  std::set<std::string> hosts;
  for (const auto& [host, members] : by_host(ranks)) {
    const auto needed = kNeededPerRank * static_cast<int64_t>(members.size());
    if (members.size() > 1 && members.front()->shared_memory_bytes < needed) hosts.insert(host);
  }
  if (hosts.empty()) return {"shared memory", Verdict::kOk, "enough in /dev/shm", {}};
  return {"shared memory", Verdict::kWarning,
          cat("less than 32 MiB a rank is free in /dev/shm on ", joined(sorted(hosts)),
              " (MPI and NCCL need it within a host). Enlarge it (docker: --shm-size)."),
          sorted(hosts)};
}

Check check_of_problems(const std::string& name, const std::vector<RankProblem>& problems,
                        const std::string& fine, const std::string& advice) {
  std::set<std::string> hosts;
  std::string first;
  for (size_t rank = 0; rank < problems.size(); ++rank) {
    if (problems[rank].text.empty()) continue;
    if (first.empty()) first = cat("rank ", rank, " on ", problems[rank].host, ": ", problems[rank].text);
    hosts.insert(problems[rank].host);
  }
  if (hosts.empty()) return {name, Verdict::kOk, fine, {}};
  return {name, Verdict::kFailed, first + " " + advice, sorted(hosts)};
}

}  // namespace fwl
