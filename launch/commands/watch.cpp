// `fwl watch`: a live dashboard of a run in the terminal, from its log alone: on any machine that sees the
// folder.
#include <sys/ioctl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <thread>

#include "core/base/error.h"
#include "core/base/file.h"
#include "launch/command.h"
#include "launch/run_config.h"
#include "launch/signals.h"
#include "launch/watch/dashboard.h"
#include "launch/watch/log_follower.h"

namespace fwl {

namespace {

constexpr size_t kDefaultWidth = 100;

struct WatchOptions {
  std::string folder;
  double interval_s = 1;
  size_t width = 0;  // 0: the terminal's
  bool once = false;
};

struct TerminalSize {
  size_t columns = kDefaultWidth, rows = 0;  // 0 rows: not known
};

TerminalSize terminal_size() {
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) {
    const char* columns = std::getenv("COLUMNS");
    const long wanted = columns != nullptr ? std::strtol(columns, nullptr, 10) : 0;
    return wanted > 0 && wanted <= 1000 ? TerminalSize{static_cast<size_t>(wanted), 0} : TerminalSize{};
  }
  return {size.ws_col, size.ws_row};
}

Glyphs glyphs_of_locale() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const char* value = std::getenv(name);
    if (value == nullptr || *value == '\0') continue;
    const std::string text = value;
    const bool unicode = text.find("UTF-8") != std::string::npos || text.find("utf8") != std::string::npos;
    return unicode ? Glyphs::kUnicode : Glyphs::kAscii;
  }
  return Glyphs::kAscii;
}

// Of the run's config, for logs that do not say it; 0 when it cannot be read.
double steps_of_config(const std::string& folder) {
  try {
    const std::string path = folder + "/config.yaml";
    return static_cast<double>(parse_run_config(read_file(path, "config"), path).train.steps);
  } catch (const Error&) {
    return 0;
  }
}

WatchedRun look(LogFollower& log, const std::string& folder) {
  log.poll();
  WatchedRun run{folder, log.begun(), log.points(), log.unreadable(), log.age_s()};
  const double logged = run.points.empty() ? 0 : run.points.back().number("total_steps");
  run.end = log.end();
  run.total_steps = logged > 0 ? logged : steps_of_config(folder);
  return run;
}

std::string text_of(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

// Draws over what was drawn before; returns how many lines are there now, or nothing when there is no
// terminal any more.
std::optional<size_t> redraw(std::vector<std::string> lines, size_t drawn, size_t rows) {
  if (rows > 2 && lines.size() > rows - 1) lines.resize(rows - 1);
  std::string text = drawn > 0 ? cat("\r\033[", drawn, "A\033[J") : "";
  text += text_of(lines);
  std::fputs(text.c_str(), stdout);
  if (std::fflush(stdout) != 0) return std::nullopt;
  return lines.size();
}

void watch(const WatchOptions& options) {
  require<ConfigError>(
      !std::filesystem::exists(options.folder) || std::filesystem::is_directory(options.folder), "'",
      options.folder, "' is no folder (a run's folder is watched). Name RUN's folder.");
  LogFollower log(options.folder + "/log.jsonl");
  const Glyphs glyphs = glyphs_of_locale();
  const bool live = !options.once && isatty(STDOUT_FILENO) != 0;
  for (size_t drawn = 0; stop_signal().empty();) {
    const TerminalSize size = terminal_size();
    // One column is left free: terminals break a full line.
    const size_t width = options.width > 0 ? options.width : size.columns - 1;
    const WatchedRun run = look(log, options.folder);
    const std::optional<size_t> lines = redraw(dashboard(run, width, glyphs), drawn, live ? size.rows : 0);
    if (!lines) return;
    drawn = *lines;
    const bool finished = run.total_steps > 0 && !run.points.empty() &&
                          static_cast<double>(run.points.back().step) >= run.total_steps;
    if (!live || finished) return;
    std::this_thread::sleep_for(std::chrono::duration<double>(options.interval_s));
  }
}

}  // namespace

void add_watch_command(CLI::App& app) {
  auto options = std::make_shared<WatchOptions>();
  CLI::App* command = app.add_subcommand("watch", "live dashboard of a training run in the terminal");
  command->add_option("run", options->folder, "the run's folder; it may not have begun")
      ->required()
      ->type_name("RUN");
  command->add_flag("--once", options->once,
                    "print one picture and end (also where the output is no terminal)");
  command->add_option("--interval", options->interval_s, "seconds between pictures")
      ->check(CLI::Range(0.05, 3600.0))
      ->capture_default_str();
  command->add_option("--width", options->width, "columns; 0: the terminal's")->check(CLI::Range(0, 1000));
  command->callback([options] {
    install_stop_signals();
    watch(*options);
  });
}

}  // namespace fwl
