// Follows a run's log.jsonl while it is written: a run that has not begun, a last line that is not finished,
// and a resumed run that wrote the file anew.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "launch/report/run.h"

namespace fwl {

class LogFollower {
 public:
  // `path` need not exist yet.
  explicit LogFollower(const std::string& path) : path_(path) {}

  // Reads what has been added since the last call. A file that was replaced or cut is read from its start.
  void poll();

  bool begun() const { return begun_; }
  // By step, the last one logged of each: what a resumed run does again replaces what was there.
  const std::vector<LogPoint>& points() const { return points_; }
  // How the run ended, when it did before its last step and nobody has gone on with it; else empty.
  const std::string& end() const { return end_; }
  // Lines that are no log lines (damage).
  int64_t unreadable() const { return unreadable_; }
  // Seconds since the file was last written; nothing before it exists.
  std::optional<double> age_s() const;

 private:
  void start_again();
  void take_line(const std::string& line);

  std::string path_, unfinished_, end_;
  bool begun_ = false;
  ino_t file_ = 0;
  int64_t read_bytes_ = 0, unreadable_ = 0;
  std::vector<LogPoint> points_;
};

}  // namespace fwl
