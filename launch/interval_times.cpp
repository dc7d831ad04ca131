#include "launch/interval_times.h"

#include <algorithm>

#include "core/base/device.h"

namespace fwl {
namespace {

constexpr size_t kMostRanks = 8;

double exposed_s(Mesh& mesh) {
  return mesh.world().take_times().exposed_s + mesh.sequence().take_times().exposed_s +
         mesh.host().take_times().exposed_s;
}

}  // namespace

std::vector<std::pair<int, double>> worst_lags(const std::vector<double>& waited_s) {
  std::vector<std::pair<int, double>> lags;
  if (waited_s.size() < 2) return lags;
  const double longest = *std::max_element(waited_s.begin(), waited_s.end());
  for (size_t rank = 0; rank < waited_s.size(); ++rank)
    lags.emplace_back(static_cast<int>(rank), longest - waited_s[rank]);
  std::stable_sort(lags.begin(), lags.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  lags.resize(std::min(lags.size(), kMostRanks));
  return lags;
}

IntervalTimes interval_times(Mesh& mesh, at::Device device) {
  const Tensor own = at::empty({2}, at::kDouble), all = at::empty({mesh.host().size(), 2}, at::kDouble);
  own[0] = exposed_s(mesh);
  own[1] = static_cast<double>(peak_memory_bytes(device));
  mesh.host().all_gather(all, own);
  IntervalTimes times;
  times.communication_s = own[0].item<double>();
  times.peak_memory_bytes = static_cast<int64_t>(all.select(1, 1).max().item<double>());
  const Tensor waited = all.select(1, 0).contiguous();
  times.rank_lag_s =
      worst_lags({waited.const_data_ptr<double>(), waited.const_data_ptr<double>() + waited.numel()});
  return times;
}

}  // namespace fwl
