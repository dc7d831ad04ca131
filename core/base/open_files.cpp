#include "core/base/open_files.h"

#include <sys/resource.h>

#include <algorithm>
#include <filesystem>
#include <system_error>

namespace fwl {
namespace {

namespace fs = std::filesystem;

constexpr rlim_t kHighest = rlim_t{1} << 20;
constexpr int64_t kMostOpen = 512;     // of the budget: each has caches of its own
constexpr int64_t kUsedByOthers = 32;  // where /proc does not tell

rlimit limits() {
  rlimit limit{RLIM_INFINITY, RLIM_INFINITY};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  return limit;
}

int64_t files_open_now() {
  std::error_code error;
  int64_t count = 0;
  for (auto it = fs::directory_iterator("/proc/self/fd", error); !error && it != fs::directory_iterator();
       it.increment(error))
    ++count;
  return error || count == 0 ? kUsedByOthers : count;
}

}  // namespace

void raise_open_file_limit() {
  rlimit limit = limits();
  const rlim_t wanted = std::min(limit.rlim_max, kHighest);
  if (limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur >= wanted) return;
  limit.rlim_cur = wanted;
  ::setrlimit(RLIMIT_NOFILE, &limit);  // refused: the budget follows the limit as it is
}

int64_t open_file_limit() {
  const rlim_t limit = limits().rlim_cur;
  return limit >= static_cast<rlim_t>(INT64_MAX) ? INT64_MAX : static_cast<int64_t>(limit);
}

int64_t open_file_budget() {
  static const int64_t budget = std::clamp<int64_t>((open_file_limit() - files_open_now()) / 2, 1, kMostOpen);
  return budget;
}

}  // namespace fwl
