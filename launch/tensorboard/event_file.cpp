#include "launch/tensorboard/event_file.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iomanip>
#include <optional>
#include <sstream>

#include "core/base/error.h"
#include "core/base/host.h"

namespace fwl {
namespace {

namespace fs = std::filesystem;

double wall_time_s() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

constexpr const char* kBegin = "events.out.tfevents.";

// SECONDS of an event file's name; nothing for other files.
std::optional<int64_t> seconds_of(const std::string& name) {
  constexpr int64_t kDigits = 10;
  if (name.rfind(kBegin, 0) != 0) return std::nullopt;
  const std::string rest = name.substr(std::strlen(kBegin));
  const auto end = static_cast<int64_t>(rest.find_first_not_of("0123456789"));
  if (end < 1 || end > kDigits) return std::nullopt;
  return std::stoll(rest.substr(0, static_cast<size_t>(end)));
}

// Readers go through a folder's files by name: a later start must come later, also within one second, and
// also when the clock was set back or another host's is behind.
int64_t seconds_after_all_files(const std::string& run_dir) {
  auto seconds = static_cast<int64_t>(wall_time_s());
  for (const auto& entry : fs::directory_iterator(run_dir))
    if (const auto taken = seconds_of(entry.path().filename().string()))
      seconds = std::max(seconds, *taken + 1);
  return seconds;
}

std::string path_at(const std::string& run_dir, int64_t seconds) {
  std::ostringstream digits;
  digits << std::setw(10) << std::setfill('0') << seconds;  // the order of the names is that of the numbers
  return cat(run_dir, "/", kBegin, digits.str(), ".", host_name(), ".", getpid());
}

}  // namespace

EventFile::EventFile(const std::string& run_dir, int64_t resumed_step) {
  const int64_t seconds = seconds_after_all_files(run_dir);
  path_ = path_at(run_dir, seconds);
  last_time_s_ = static_cast<double>(seconds);
  const double now = next_time_s();
  pending_ = tfrecord(version_event(now)) + tfrecord(start_event(now, resumed_step + 1));
  require<DataError>(
      flush(), "cannot write '", path_,
      "' (TensorBoard's events). Check the folder's permissions, or set train.tensorboard=false.");
}

bool EventFile::write(int64_t step, const Scalars& scalars, const Histograms& histograms) {
  Scalars finite;
  for (const auto& scalar : scalars)
    if (std::isfinite(scalar.second)) finite.push_back(scalar);
  pending_ += tfrecord(summary_event(next_time_s(), step, finite, histograms));
  return flush();
}

double EventFile::next_time_s() {
  last_time_s_ = std::max(last_time_s_, wall_time_s());
  return last_time_s_;
}

// All of the pending records or, as far as the disk lets us, none.
bool EventFile::flush() {
  std::error_code ignored;
  const auto size_before = fs::exists(path_) ? fs::file_size(path_, ignored) : 0;
  std::ofstream file(path_, std::ios::app | std::ios::binary);
  file << pending_ << std::flush;
  if (file.good()) {
    pending_.clear();
    return true;
  }
  fs::resize_file(path_, size_before, ignored);
  return false;
}

}  // namespace fwl
