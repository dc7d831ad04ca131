#include "core/base/profile.h"

#include <torch/csrc/autograd/profiler_kineto.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <vector>

#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/torch.h"

namespace fwl {
namespace {

namespace kineto = torch::autograd::profiler;
using torch::profiler::impl::ActivityType;
using torch::profiler::impl::ProfilerConfig;
using torch::profiler::impl::ProfilerState;

constexpr const char* kNvtx = "nvtx";
constexpr size_t kRows = 40, kNameColumns = 110;

struct KernelTime {
  int64_t calls = 0;
  double total_ms = 0;
};

// Device work by name, the longest first; without devices, operations of the CPU.
std::vector<std::pair<std::string, KernelTime>> by_time(const kineto::ProfilerResult& result) {
  std::map<std::string, KernelTime> kernels[2];
  for (const auto& event : result.events()) {
    KernelTime& k = kernels[event.deviceType() == c10::DeviceType::CPU ? 0 : 1][event.name()];
    k.calls += 1;
    k.total_ms += static_cast<double>(event.durationNs()) / 1e6;
  }
  const auto& chosen = kernels[kernels[1].empty() ? 0 : 1];
  std::vector<std::pair<std::string, KernelTime>> rows(chosen.begin(), chosen.end());
  std::sort(rows.begin(), rows.end(),
            [](const auto& a, const auto& b) { return a.second.total_ms > b.second.total_ms; });
  return rows;
}

void print_table(const kineto::ProfilerResult& result, int64_t steps) {
  const auto rows = by_time(result);
  double total_ms = 0;
  int64_t calls = 0;
  for (const auto& [name, k] : rows) {
    total_ms += k.total_ms;
    calls += k.calls;
  }
  const auto per_step = static_cast<double>(steps);
  std::printf("profile: %.3f ms in %.0f calls a step\n", total_ms / per_step,
              static_cast<double>(calls) / per_step);
  for (size_t i = 0; i < std::min(rows.size(), kRows); ++i) {
    const KernelTime& k = rows[i].second;
    std::printf("%9.3f ms %6.1f calls %5.1f %%  %s\n", k.total_ms / per_step,
                static_cast<double>(k.calls) / per_step, 100 * k.total_ms / total_ms,
                rows[i].first.substr(0, kNameColumns).c_str());
  }
}

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : value;
}

}  // namespace

bool Profile::wanted() {
  return !environment("FWL_PROFILE").empty();
}

Profile::Profile(int64_t steps) : target_(environment("FWL_PROFILE")), steps_(steps) {
  if (target_.empty()) return;
  if (target_ == kNvtx) {
    kineto::enableProfiler(ProfilerConfig(ProfilerState::NVTX), {});
    return;
  }
  const std::filesystem::path folder = std::filesystem::path(target_).parent_path();
  require<ConfigError>(folder.empty() || std::filesystem::is_directory(folder),
                       "FWL_PROFILE: the folder of '", target_,
                       "' does not exist (no trace could be written). Make it first.");
  const ProfilerConfig config(ProfilerState::KINETO);
  const std::set<ActivityType> activities = {ActivityType::CPU, ActivityType::CUDA};
  kineto::prepareProfiler(config, activities);
  kineto::enableProfiler(config, activities, {at::RecordScope::FUNCTION, at::RecordScope::USER_SCOPE});
}

void Profile::finish() const {
  const auto result = kineto::disableProfiler();
  if (target_ == kNvtx) return;
  result->save(target_);
  print_table(*result, steps_);
  log_info(fwl::cat("Chrome trace of ", steps_, " steps: ", target_));
}

// What ends a profiled run by an error is not to be lost by one of the profiler.
Profile::~Profile() {
  if (target_.empty()) return;
  try {
    finish();
  } catch (const std::exception& error) {
    log_warn(fwl::cat("FWL_PROFILE: no trace at '", target_, "' (", error.what(), ")."));
  }
}

}  // namespace fwl
