#include "launch/plan/gpu.h"

#include <algorithm>

#include "core/base/error.h"

namespace fwl {

// Sources. Memory: as nvidia-smi reports it (81,920, 81,559, 143,771, 183,359 MiB). Peaks and bandwidth:
// NVIDIA's data sheets "A100 Tensor Core GPU" (SXM 80 GB), "H100" (SXM), "H200" (SXM), "B200" as in "DGX
// B200" (72 PFLOP/s FP8 and 144 sparse FP4 of eight: 2.25 PFLOP/s dense bf16 of one; 64 TB/s of eight).
// Within a host: 202 GB/s bus bandwidth and 70-90 us measured on two H200s (NCCL all-reduce, NVLink multicast
// off); the others scaled by their NVLink (300, 450, 450, 900 GB/s a direction). ASSUMED, not measured: eight
// GPUs do as well as two; between hosts 80 % of one network card a GPU (200 Gb/s beside an A100, 400 Gb/s
// beside the others); 15 us a hop.
const std::vector<Gpu>& known_gpus() {
  static const std::vector<Gpu> gpus = {
      {"a100", 312e12, 85.9e9, 2.039e12, 135e9, 20e9, 8, 80e-6, 15e-6, false},
      {"h100", 989e12, 85.5e9, 3.35e12, 202e9, 40e9, 8, 80e-6, 15e-6, false},
      {"h200", 989e12, 150.8e9, 4.8e12, 202e9, 40e9, 8, 80e-6, 15e-6, true},
      {"b200", 2250e12, 192.3e9, 8e12, 404e9, 40e9, 8, 80e-6, 15e-6, false}};
  return gpus;
}

const Gpu& find_gpu(std::string_view name) {
  const auto& gpus = known_gpus();
  const auto found = std::find_if(gpus.begin(), gpus.end(), [&](const Gpu& g) { return g.name == name; });
  std::string names;
  for (const Gpu& gpu : gpus) names += (names.empty() ? "" : ", ") + gpu.name;
  require<ConfigError>(found != gpus.end(), "no GPU '", name,
                       "' is known (its peak, memory and links are needed). Choose among ", names, ".");
  return *found;
}

}  // namespace fwl
