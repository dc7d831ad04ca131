#include "core/base/threads.h"

#include <ATen/Parallel.h>
#include <sched.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <optional>
#include <sstream>
#include <thread>
#include <vector>

#include "core/base/error.h"
#include "core/base/waiting.h"

namespace fwl {
namespace {

constexpr double kNoQuota = std::numeric_limits<double>::infinity();

std::vector<std::string> lines_of(const std::string& path) {
  std::ifstream file(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

// Whether `word` is one of the words of `list`, which commas separate.
bool names(const std::string& list, const std::string& word) {
  return ("," + list + ",").find("," + word + ",") != std::string::npos;
}

// The kernel writes blanks and the like in paths as \040.
std::string unescaped(const std::string& text) {
  std::string plain;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      plain += static_cast<char>(std::strtol(text.substr(i + 1, 3).c_str(), nullptr, 8));
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

// Where a cgroup hierarchy is mounted, and which of its folders is seen there.
struct CgroupMount {
  std::string point, folder;
};

// /proc/self/mountinfo: id parent device FOLDER POINT options... - TYPE source SUPER_OPTIONS. Of version 1
// the mount of the controller `cpu`.
std::optional<CgroupMount> find_mount(const std::string& root, const std::string& type) {
  for (const std::string& line : lines_of(root + "/proc/self/mountinfo")) {
    std::istringstream words(line);
    std::string skip, folder, point, word, found_type, source, options;
    words >> skip >> skip >> skip >> folder >> point;
    while (words >> word && word != "-") continue;
    words >> found_type >> source >> options;
    if (found_type == type && (type == "cgroup2" || names(options, "cpu")))
      return CgroupMount{unescaped(point), unescaped(folder)};
  }
  return std::nullopt;
}

// /proc/self/cgroup: ID:CONTROLLERS:FOLDER, with no controllers for version 2.
std::string own_folder(const std::string& root, const std::string& type) {
  for (const std::string& line : lines_of(root + "/proc/self/cgroup")) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (type == "cgroup2" ? controllers.empty() : names(controllers, "cpu")) return line.substr(second + 1);
  }
  return "/";
}

double number_in(const std::string& path) {
  std::ifstream file(path);
  double value = 0;
  return file >> value ? value : 0;
}

// One folder's quota. Version 2: "50000 100000" or "max 100000"; version 1: -1 is none.
double quota_of(const std::string& folder, const std::string& type) {
  double quota = 0, period = 0;
  if (type == "cgroup2") {
    std::ifstream file(folder + "/cpu.max");
    if (!(file >> quota >> period)) return kNoQuota;
  } else {
    quota = number_in(folder + "/cpu.cfs_quota_us");
    period = number_in(folder + "/cpu.cfs_period_us");
  }
  return quota > 0 && period > 0 ? quota / period : kNoQuota;
}

// The tightest from this process's folder up to the mount's top. In a container the folder may be named as
// the host sees it, outside of what is mounted: then the top is the container's own.
double quota_of_hierarchy(const std::string& root, const std::string& type) {
  const auto mount = find_mount(root, type);
  if (!mount) return kNoQuota;
  std::string below = own_folder(root, type);
  if (mount->folder != "/") {
    const bool inside = below == mount->folder || below.rfind(mount->folder + "/", 0) == 0;
    below = inside ? below.substr(mount->folder.size()) : "";
  }
  if (below.find("/..") != std::string::npos) below.clear();
  while (!below.empty() && below.back() == '/') below.pop_back();
  double tightest = kNoQuota;
  for (;; below.erase(below.rfind('/'))) {
    tightest = std::min(tightest, quota_of(root + mount->point + below, type));
    if (below.empty()) return tightest;
  }
}

std::string quota_text(double quota) {
  return std::isfinite(quota) ? cat(", of which a quota allows ", quota) : std::string();
}

}  // namespace

int allowed_cpus() {
  // The kernel refuses a set that is smaller than its own.
  for (int size = 1024; size <= 1 << 20; size *= 2) {
    std::vector<cpu_set_t> set(CPU_ALLOC_SIZE(size) / sizeof(cpu_set_t));
    const size_t bytes = set.size() * sizeof(cpu_set_t);
    if (sched_getaffinity(0, bytes, set.data()) == 0) return std::max(1, CPU_COUNT_S(bytes, set.data()));
  }
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

double cpu_quota(const std::string& root) {
  return std::min(quota_of_hierarchy(root, "cgroup"), quota_of_hierarchy(root, "cgroup2"));
}

int thread_share(int cpus, double quota, int ranks) {
  const double usable = std::min<double>(cpus, std::ceil(quota));
  return std::max(1, static_cast<int>(usable) / std::max(1, ranks));
}

int threads_asked_for() {
  const char* variable = std::getenv("OMP_NUM_THREADS");
  if (variable == nullptr) return 0;
  const std::string text = variable;
  if (text.find_first_not_of(" \t") == std::string::npos) return 0;
  // OpenMP takes a list, one number for each level of nesting.
  std::istringstream parts(text + ",");
  int first = 0;
  for (std::string part; std::getline(parts, part, ',');) {
    const size_t begin = part.find_first_not_of(" \t"), end = part.find_last_not_of(" \t");
    const std::string digits = begin == std::string::npos ? "" : part.substr(begin, end - begin + 1);
    const bool is_count = !digits.empty() && digits.size() <= 5 &&
                          digits.find_first_not_of("0123456789") == std::string::npos &&
                          std::stoi(digits) > 0;
    require<ConfigError>(
        is_count, "OMP_NUM_THREADS='", text,
        "' is no number of threads (the program would choose one itself). Set it to 1 or more, "
        "or unset it.");
    if (first == 0) first = std::stoi(digits);
  }
  return first;
}

int threads_for(int ranks) {
  const int asked = threads_asked_for();
  return asked > 0 ? asked : thread_share(allowed_cpus(), cpu_quota(), ranks);
}

std::string set_thread_count(int local_ranks) {
  const int threads = threads_for(local_ranks), cpus = allowed_cpus();
  at::set_num_threads(threads);
  return cat(threads, threads == 1 ? " thread" : " threads", local_ranks > 1 ? " a rank" : "", " (",
             threads_asked_for() > 0 ? "OMP_NUM_THREADS; " : "", cpus, cpus == 1 ? " core" : " cores",
             quota_text(cpu_quota()), local_ranks > 1 ? cat(", ", local_ranks, " ranks of this host") : "",
             "), ", describe_waiting());
}

}  // namespace fwl
