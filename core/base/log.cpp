#include "core/base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <cstdlib>
#include <memory>

#include "core/base/error.h"

namespace fwl {
namespace {

struct LogState {
  std::shared_ptr<spdlog::logger> logger;
  int rank = 0;
};

spdlog::level::level_enum parse_level(const std::string& level) {
  const auto parsed = spdlog::level::from_str(level);
  require<ConfigError>(parsed != spdlog::level::off || level == "off", "log level '", level,
                       "' does not exist. Use trace, debug, info, warn, error or off.");
  return parsed;
}

LogState& state() {
  static LogState s = [] {
    LogState made;
    made.logger = spdlog::stderr_color_mt("fwl");
    made.logger->set_pattern("[%H:%M:%S] %^%v%$");
    const char* level = std::getenv("FWL_LOG");
    if (level != nullptr) made.logger->set_level(parse_level(level));
    return made;
  }();
  return s;
}

}  // namespace

void set_log_rank(int rank, int size) {
  state().rank = rank;
  if (size > 1) state().logger->set_pattern(cat("[%H:%M:%S] [rank ", rank, "] %^%v%$"));
}

void set_log_level(const std::string& level) {
  state().logger->set_level(parse_level(level));
}

void log_debug(const std::string& message) {
  state().logger->debug("{}", message);
}
void log_info(const std::string& message) {
  if (state().rank == 0) state().logger->info("{}", message);
}
void log_warn(const std::string& message) {
  state().logger->warn("warning: {}", message);
}
void log_error(const std::string& message) {
  state().logger->error("error: {}", message);
}

}  // namespace fwl
