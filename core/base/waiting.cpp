#include "core/base/waiting.h"

#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bitset>
#include <cctype>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "core/base/error.h"
#include "core/base/threads.h"

namespace fwl {
namespace {

// Carries the choice over the new start: "passive REASON".
constexpr const char* kChosen = "FWL_WAIT_CHOSEN";
// Polls of libgomp, 0.2 to 0.9 ms: longer than most gaps between two parallel loops of a step, shorter than a
// time slice. Its own default is 300,000.
constexpr const char* kBriefSpins = "20000";
constexpr std::array kWords = {"passive", "brief", "active"};

struct Settled {
  WaitChoice choice;
  std::string openmp;  // the user's variable that OpenMP follows instead
};

Settled& settled() {
  static Settled only;
  return only;
}

std::string lower(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

// Unset and empty are the same.
std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : value;
}

std::string rounded(double value) {
  std::ostringstream text;
  text.precision(2);
  text << value;
  return text.str();
}

// CPUs of the process that started this one: a launcher may have bound each rank to its own.
int parents_cpus() {
  std::ifstream status(cat("/proc/", getppid(), "/status"));
  for (std::string line; std::getline(status, line);) {
    if (line.rfind("Cpus_allowed:", 0) != 0) continue;
    size_t count = 0;
    for (const char c : line.substr(line.find(':') + 1))
      if (std::isxdigit(static_cast<unsigned char>(c)))
        count +=
            std::bitset<4>(static_cast<unsigned long>(std::stoi(std::string(1, c), nullptr, 16))).count();
    return static_cast<int>(count);
  }
  return 0;
}

// Cores' worth of work of other programs on the whole machine: as much as there was over the last minute and
// is there now. /proc/loadavg: "0.97 0.82 0.70 2/315 4711", the fourth is what runs or could run now.
double machine_load(int ranks) {
  double least_minute = 0, most_now = 0;
  for (int sample = 0; sample < 3; ++sample) {
    std::ifstream file("/proc/loadavg");
    double minute = 0, five = 0, fifteen = 0, now = 0;
    if (!(file >> minute >> five >> fifteen >> now)) return 0;
    least_minute = sample == 0 ? minute : std::min(least_minute, minute);
    most_now = std::max(most_now, now - ranks);
    usleep(3000);
  }
  return std::max(0.0, std::min(least_minute, most_now));
}

WaitFacts look_around(int ranks) {
  WaitFacts facts;
  facts.threads = threads_for(ranks);
  facts.ranks = ranks;
  facts.cpus = allowed_cpus();
  facts.cpus_of_ranks = std::max(facts.cpus, parents_cpus());
  facts.quota = cpu_quota();
  const long online = std::max(1L, sysconf(_SC_NPROCESSORS_ONLN));
  facts.others_busy = machine_load(ranks) * std::min(1.0, facts.cpus_of_ranks / static_cast<double>(online));
  return facts;
}

// The user's word to OpenMP's library, or nothing.
std::string users_openmp_variable() {
  for (const char* name : {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"})
    if (!variable(name).empty()) return name;
  return {};
}

// Returns only when the program could not be started again.
void start_again(char** argv, const WaitChoice& choice) {
  std::array<char, 4096> path{};
  const ssize_t length = readlink("/proc/self/exe", path.data(), path.size() - 1);
  if (length <= 0) return;
  if (access(path.data(), X_OK) != 0) path = {"/proc/self/exe"};  // replaced since it was started
  setenv(kChosen, cat(kWords[static_cast<size_t>(choice.how)], " ", choice.why).c_str(), 1);
  execv(path.data(), argv);
  unsetenv(kChosen);
}

// What the first start chose; false when this is the first.
bool take_over_choice() {
  const std::string chosen = variable(kChosen);
  if (chosen.empty()) return false;
  unsetenv(kChosen);
  prctl(PR_SET_NAME, "fwl");
  const size_t blank = std::min(chosen.find(' '), chosen.size());
  const auto* const word = std::find(kWords.begin(), kWords.end(), chosen.substr(0, blank));
  if (word == kWords.end()) return false;
  settled().choice = {static_cast<Waiting>(word - kWords.begin()),
                      blank < chosen.size() ? chosen.substr(blank + 1) : ""};
  return true;
}

}  // namespace

WaitChoice choose_waiting(const std::string& setting, const WaitFacts& f) {
  const std::string word = lower(setting);
  if (word == "passive") return {Waiting::kPassive, "FWL_WAIT"};
  if (word == "active") return {Waiting::kActive, "FWL_WAIT"};
  require<ConfigError>(word.empty() || word == "auto", "FWL_WAIT='", setting,
                       "' does not exist (it says how threads and ranks wait). Use auto, passive or active.");
  const double wanted = static_cast<double>(f.threads) * f.ranks;
  if (f.threads > f.cpus || wanted > f.cpus_of_ranks)
    return {Waiting::kPassive,
            cat(wanted, " threads on ", f.threads > f.cpus ? f.cpus : f.cpus_of_ranks, " cores")};
  if (f.quota < f.cpus_of_ranks)
    return {Waiting::kPassive, cat("a quota of ", rounded(f.quota), " of ", f.cpus_of_ranks, " cores")};
  if (f.others_busy + wanted > f.cpus_of_ranks + 0.5)
    return {Waiting::kPassive,
            cat("other programs use ", rounded(std::min<double>(f.others_busy, f.cpus_of_ranks)), " of ",
                f.cpus_of_ranks, " cores")};
  return {Waiting::kBrief, "the cores are free"};
}

void settle_waiting(int ranks, char** argv) {
  if (take_over_choice()) return;
  const WaitFacts facts = look_around(ranks);
  WaitChoice choice = choose_waiting(variable("FWL_WAIT"), facts);
  const std::string users = users_openmp_variable();
  if (users == "OMP_WAIT_POLICY" && variable("FWL_WAIT").empty()) {
    const std::string policy = lower(variable("OMP_WAIT_POLICY"));
    if (policy == "passive" || policy == "active")
      choice = {policy == "passive" ? Waiting::kPassive : Waiting::kActive, "OMP_WAIT_POLICY"};
  }
  settled() = {choice, users == choice.why ? "" : users};
  if (choice.how == Waiting::kPassive) setenv("OMPI_MCA_mpi_yield_when_idle", "1", /*overwrite=*/0);
  if (threads_asked_for() == 0) unsetenv("OMP_NUM_THREADS");  // an empty one: libgomp would complain again
  if (facts.threads == 1 || !users.empty() || choice.how == Waiting::kActive) return;
  if (choice.how == Waiting::kPassive) {
    setenv("OMP_WAIT_POLICY", "passive", 1);
  } else {
    setenv("GOMP_SPINCOUNT", kBriefSpins, 1);
  }
  start_again(argv, choice);
}

bool waits_passively() {
  return settled().choice.how == Waiting::kPassive;
}

std::string describe_waiting() {
  const Settled& s = settled();
  const std::string how = s.choice.how == Waiting::kPassive  ? "waiting passively"
                          : s.choice.how == Waiting::kActive ? "waiting actively"
                                                             : "waiting passively after a short spin";
  return cat(how, s.choice.why.empty() ? "" : cat(" (", s.choice.why, ")"),
             s.openmp.empty() ? "" : cat(", OpenMP as ", s.openmp, " says"));
}

}  // namespace fwl
