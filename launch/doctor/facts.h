// What one rank says of its place, its host and its build: the input of the checks that compare ranks.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "parallel/communicator.h"
#include "parallel/session.h"
#include "parallel/texts.h"

namespace fwl {

struct RankFacts {
  int rank = 0;
  int local_rank = 0;
  std::string host;
  std::vector<std::string> addresses;  // of the host's interfaces that are up, loopback left out
  std::vector<int> ports;              // this rank listens on them while the doctor runs
  int gpus = 0;                        // that this process can use
  std::string gpu;                     // name of this rank's GPU; empty: none
  std::string gpu_bus;                 // its PCI address: two ranks with the same one share a GPU
  std::string gpu_problem;             // why there is none although one was asked for
  std::vector<int> cores;              // that this process may run on
  std::vector<int> numa_nodes;         // of those cores
  int gpu_numa_node = -1;              // -1: unknown
  int64_t memory_bytes = 0;            // available on the host
  int64_t shared_memory_bytes = 0;     // free in /dev/shm
  int64_t open_files = 0;              // that this process may have
  int64_t data_files = 0;              // of them data and checkpoint files (core/base/open_files.h)
  std::string binary_hash;
  std::string config_hash;                       // empty: no config was given
  std::map<std::string, std::string> libraries;  // name -> file name and size, of those that matter
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(RankFacts, rank, local_rank, host, addresses, ports, gpus, gpu, gpu_bus,
                                   gpu_problem, cores, numa_nodes, gpu_numa_node, memory_bytes,
                                   shared_memory_bytes, open_files, data_files, binary_hash, config_hash,
                                   libraries)

// Facts of this process; `device` as in choose_device(). Ports are left empty (launch/doctor/ports.h).
RankFacts collect_facts(const Placement& place, const std::string& device, const std::string& config_yaml);

// Of all ranks, in rank order. Collective over the group (host tensors).
std::vector<RankFacts> gather_facts(Communicator& group, const RankFacts& own);

// {0, 1, 2, 5} -> "0-2,5", and back (as in /sys and taskset).
std::string range_text(const std::vector<int>& sorted);
std::vector<int> parse_ranges(const std::string& text);

}  // namespace fwl
