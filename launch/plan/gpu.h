// The GPUs that `fwl plan` knows, and the links between them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace fwl {

// Rates are those of one GPU and one direction.
struct Gpu {
  std::string name;
  double bf16_flops = 0;         // per second, dense, the vendor's peak
  double memory_bytes = 0;       // device memory
  double memory_bandwidth = 0;   // bytes per second, the vendor's peak
  double host_bandwidth = 0;     // NCCL bus bandwidth within a host, bytes per second
  double network_bandwidth = 0;  // the same between hosts
  int per_host = 8;
  double latency_s = 0;         // of one collective within a host
  double hop_latency_s = 0;     // added for each doubling of the hosts, twice (up and down a tree)
  bool rates_measured = false;  // else: the H200's, scaled by the peaks
};

const std::vector<Gpu>& known_gpus();
// Throws ConfigError naming those that are known.
const Gpu& find_gpu(std::string_view name);

}  // namespace fwl
