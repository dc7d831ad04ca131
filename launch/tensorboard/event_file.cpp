#include "launch/tensorboard/event_file.h"

#include <unistd.h>

#include <array>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <fstream>

#include "core/base/error.h"

namespace fwl {
namespace {

namespace fs = std::filesystem;

double wall_time_s() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::string host_name() {
  std::array<char, 256> name{};
  return gethostname(name.data(), name.size() - 1) == 0 && name[0] != '\0' ? name.data() : "localhost";
}

// Readers go through a folder's files by name: a later start must come later, also within one second.
std::string new_path(const std::string& run_dir) {
  for (auto seconds = static_cast<int64_t>(wall_time_s());; ++seconds) {
    const std::string begin = cat("events.out.tfevents.", seconds, ".");
    bool taken = false;
    for (const auto& entry : fs::directory_iterator(run_dir))
      taken = taken || entry.path().filename().string().rfind(begin, 0) == 0;
    if (!taken) return cat(run_dir, "/", begin, host_name(), ".", getpid());
  }
}

}  // namespace

EventFile::EventFile(const std::string& run_dir, int64_t resumed_step) : path_(new_path(run_dir)) {
  const double now = wall_time_s();
  pending_ = tfrecord(version_event(now)) + tfrecord(start_event(now, resumed_step + 1));
  require<DataError>(
      flush(), "cannot write '", path_,
      "' (TensorBoard's events). Check the folder's permissions, or set train.tensorboard=false.");
}

bool EventFile::write(int64_t step, const Scalars& scalars, const Histograms& histograms) {
  Scalars finite;
  for (const auto& scalar : scalars)
    if (std::isfinite(scalar.second)) finite.push_back(scalar);
  pending_ += tfrecord(summary_event(wall_time_s(), step, finite, histograms));
  return flush();
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
