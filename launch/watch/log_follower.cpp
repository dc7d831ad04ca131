#include "launch/watch/log_follower.h"

#include <sys/stat.h>

#include <cerrno>
#include <chrono>
#include <fstream>

#include "core/base/error.h"
#include "core/base/system_error.h"

namespace fwl {

void LogFollower::start_again() {
  points_.clear();
  unfinished_.clear();
  end_.clear();
  read_bytes_ = unreadable_ = 0;
}

void LogFollower::take_line(const std::string& line) {
  if (line.find_first_not_of(" \t\r") == std::string::npos) return;
  end_ = end_in(line);
  if (!end_.empty()) return;
  try {
    LogPoint point = parse_log_line(line, path_);
    while (!points_.empty() && points_.back().step >= point.step) points_.pop_back();
    points_.push_back(std::move(point));
  } catch (const DataError&) {
    unreadable_ += 1;
  }
}

void LogFollower::poll() {
  struct stat status {};
  begun_ = stat(path_.c_str(), &status) == 0;
  if (!begun_ || status.st_ino != file_ || status.st_size < read_bytes_) start_again();
  if (!begun_) return;
  file_ = status.st_ino;
  std::ifstream file(path_, std::ios::binary);
  const int error = errno;
  if (!file.is_open()) {
    const SystemError refused(error, cat("'", path_, "' cannot be opened"));
    if (!refused.may_pass()) throw refused;
    return;
  }
  file.seekg(read_bytes_);
  std::string added(static_cast<size_t>(status.st_size - read_bytes_), '\0');
  file.read(added.data(), static_cast<std::streamsize>(added.size()));
  added.resize(static_cast<size_t>(file.gcount()));
  read_bytes_ += file.gcount();
  unfinished_ += added;
  size_t begin = 0;
  for (size_t end; (end = unfinished_.find('\n', begin)) != std::string::npos; begin = end + 1)
    take_line(unfinished_.substr(begin, end - begin));
  unfinished_.erase(0, begin);
}

std::optional<double> LogFollower::age_s() const {
  struct stat status {};
  if (stat(path_.c_str(), &status) != 0) return {};
  const double now =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  return now - static_cast<double>(status.st_mtim.tv_sec) -
         1e-9 * static_cast<double>(status.st_mtim.tv_nsec);
}

}  // namespace fwl
