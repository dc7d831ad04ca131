// What `fwl watch` shows of a run: text of a given width, made from the log alone.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "launch/report/run.h"

namespace fwl {

enum class Glyphs { kUnicode, kAscii };

struct WatchedRun {
  std::string folder;
  bool begun = false;  // there is a log
  std::vector<LogPoint> points = {};
  int64_t unreadable = 0;            // lines of the log
  std::optional<double> age_s = {};  // since the log was last written
  double total_steps = 0;            // 0: not known
  std::string end = {};              // how the run ended before its last step; empty: it has not
};

// At most `width` characters of blocks (or of " .:-=+*#"), the lowest for the least value; several values
// share a character by their mean. Values that are not finite are gaps.
std::string sparkline(const std::vector<double>& values, size_t width, Glyphs glyphs);
// "42 s", "3 min 20 s", "5 h 07 min", "2 d 03 h"; "-" for what is not finite.
std::string duration_text(double seconds);
// Steps at which a process went on with the run: where the time since its start falls.
std::vector<int64_t> restarts(const std::vector<LogPoint>& points);
// Seconds to the last step, by the median speed of the last 20 points; NaN when not known.
double seconds_left(const WatchedRun& run);

// Lines without line ends, each at most `width` (at least 20) characters wide.
std::vector<std::string> dashboard(const WatchedRun& run, size_t width, Glyphs glyphs);

}  // namespace fwl
