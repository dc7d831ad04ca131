// The training log of a run, as the report and `fwl watch` read it.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace fwl {

struct LogPoint {
  int64_t step = 0;
  double tokens = 0;  // trained on so far
  double loss = 0;    // nats per token, mean since the logged step before
  // All other numbers of the line; those of an object by "object.key", those of an array by "array.index".
  std::map<std::string, double> numbers = {};

  double number(const std::string& name) const;  // NaN when it was not logged
};

struct LoggedRun {
  std::string label;
  std::string folder;
  std::vector<LogPoint> points;  // ascending steps, each once
  int64_t skipped = 0;           // steps that were skipped
  double tokens_per_s = 0;       // median of the logged ones; NaN when none is logged
  std::string tokenizer = {};    // "byte 0123456789abcdef"; empty: not known
};

// Of the line that a run writes last when it ends before its last step: "stopped: SIGTERM received"; empty
// for any other line.
std::string end_in(const std::string& line);

// One line of a log. Throws DataError (`where`) unless it is an object with step, tokens and loss; a loss of
// null is NaN.
LogPoint parse_log_line(const std::string& line, const std::string& where);

// Reads FOLDER/log.jsonl. `run` is FOLDER (the label is its last part) or LABEL=FOLDER. A step that is logged
// twice (a resumed run) counts as logged last; a last line that a killed run left unfinished, and points
// whose loss is no number (skipped steps), are left out. Throws DataError (path, line) and ConfigError (empty
// label or folder).
LoggedRun read_run(const std::string& run);

}  // namespace fwl
