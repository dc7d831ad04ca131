#include "launch/doctor/facts.h"

#include <link.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "core/base/device.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/hash.h"
#include "core/base/hex.h"
#include "core/base/host.h"
#include "core/base/json.h"
#include "core/base/open_files.h"
#include "launch/doctor/ports.h"

namespace fwl {
namespace {

namespace fs = std::filesystem;

// A difference in one of these changes results or breaks communication.
constexpr std::array kComparedLibraries = {
    "libtorch", "libc10",  "libmpi.", "libopen-",     "libpmix", "libnccl",          "libcuda",
    "libhdf5",  "libgomp", "libz.",   "libstdc++.so", "libc.so", "libsentencepiece", "libzstd"};

std::vector<int> allowed_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  std::vector<int> cores;
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return cores;
  for (int core = 0; core < CPU_SETSIZE; ++core) {
    if (CPU_ISSET(core, &set)) cores.push_back(core);
  }
  return cores;
}

std::string first_line(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

std::vector<int> numa_nodes_of(const std::vector<int>& cores) {
  const std::set<int> wanted(cores.begin(), cores.end());
  std::vector<int> nodes;
  for (const int node : parse_ranges(first_line("/sys/devices/system/node/online"))) {
    const auto members = parse_ranges(first_line(cat("/sys/devices/system/node/node", node, "/cpulist")));
    if (std::any_of(members.begin(), members.end(), [&](int core) { return wanted.count(core) > 0; }))
      nodes.push_back(node);
  }
  return nodes;
}

int numa_node_of_gpu(std::string bus) {
  std::transform(bus.begin(), bus.end(), bus.begin(), [](unsigned char c) { return std::tolower(c); });
  const std::string text = first_line("/sys/bus/pci/devices/" + bus + "/numa_node");
  return text.empty() ? -1 : std::atoi(text.c_str());
}

int64_t available_memory_bytes() {
  std::ifstream in("/proc/meminfo");
  for (std::string line; std::getline(in, line);) {
    if (line.rfind("MemAvailable:", 0) == 0) return std::atoll(line.c_str() + 13) * 1024;
  }
  return 0;
}

int note_library(dl_phdr_info* info, size_t, void* found) {
  std::error_code error;
  const fs::path file = fs::canonical(info->dlpi_name, error);
  if (error) return 0;
  const std::string name = file.filename().string();
  for (const std::string prefix : kComparedLibraries) {
    if (name.rfind(prefix, 0) != 0) continue;
    const std::string stem = name.substr(0, name.find(".so"));
    (*static_cast<std::map<std::string, std::string>*>(found))[stem] =
        cat(name, " (", fs::file_size(file, error), " bytes)");
  }
  return 0;
}

void describe_gpu(RankFacts& facts, const std::string& device) {
  try {
    const at::Device chosen = choose_device(device, facts.local_rank);
    if (!chosen.is_cuda()) return;
    facts.gpus = cuda_device_count();
    const GpuName gpu = gpu_name(chosen.index());
    facts.gpu = gpu.name;
    facts.gpu_bus = gpu.bus;
    facts.gpu_numa_node = numa_node_of_gpu(gpu.bus);
  } catch (const ConfigError& error) {
    facts.gpu_problem = error.what();
  }
}

}  // namespace

RankFacts collect_facts(const Placement& place, const std::string& device, const std::string& config_yaml) {
  RankFacts facts;
  facts.rank = place.rank;
  facts.local_rank = place.local_rank;
  facts.host = host_name();
  facts.addresses = host_addresses();
  facts.cores = allowed_cores();
  facts.numa_nodes = numa_nodes_of(facts.cores);
  facts.memory_bytes = available_memory_bytes();
  facts.shared_memory_bytes = static_cast<int64_t>(free_bytes("/dev/shm").value_or(0));
  facts.open_files = open_file_limit();
  facts.data_files = open_file_budget();
  facts.binary_hash = to_hex(hash_bytes(read_file("/proc/self/exe", "program")));
  if (!config_yaml.empty()) facts.config_hash = to_hex(hash_bytes(config_yaml));
  describe_gpu(facts, device);
  ::dl_iterate_phdr(note_library, &facts.libraries);
  return facts;
}

std::vector<RankFacts> gather_facts(Communicator& group, const RankFacts& own) {
  std::vector<RankFacts> all;
  for (const std::string& text : gather_texts(group, json_text(nlohmann::json(own))))
    all.push_back(nlohmann::json::parse(text).get<RankFacts>());
  return all;
}

std::string range_text(const std::vector<int>& sorted) {
  std::string text;
  for (size_t first = 0; first < sorted.size();) {
    size_t last = first;
    while (last + 1 < sorted.size() && sorted[last + 1] == sorted[last] + 1) ++last;
    if (!text.empty()) text += ",";
    text += std::to_string(sorted[first]);
    if (last > first) text += "-" + std::to_string(sorted[last]);
    first = last + 1;
  }
  return text;
}

std::vector<int> parse_ranges(const std::string& text) {
  std::vector<int> members;
  std::istringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');) {
    if (part.empty()) continue;
    const size_t dash = part.find('-');
    const int first = std::atoi(part.c_str());
    const int last = dash == std::string::npos ? first : std::atoi(part.c_str() + dash + 1);
    for (int member = first; member <= last; ++member) members.push_back(member);
  }
  return members;
}

}  // namespace fwl
