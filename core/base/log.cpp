#include "core/base/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include <cctype>
#include <cstdlib>
#include <memory>
#include <optional>

#include "core/base/error.h"

namespace fwl {
namespace {

struct LogState {
  std::shared_ptr<spdlog::logger> logger;
  int rank = 0;
};

// In any case: people write INFO. Nothing for a word that names no level.
std::optional<spdlog::level::level_enum> parse_level(const std::string& level) {
  std::string word;
  for (const char c : level) word += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  const auto parsed = spdlog::level::from_str(word);
  if (parsed == spdlog::level::off && word != "off") return std::nullopt;
  return parsed;
}

LogState& state() {
  static LogState s = [] {
    LogState made;
    made.logger = spdlog::stderr_color_mt("fwl");
    made.logger->set_pattern("[%H:%M:%S] %^%v%$");
    // A static must not throw: main() refuses what names no level (set_log_level).
    const char* level = std::getenv("FWL_LOG");
    if (const auto parsed = parse_level(level == nullptr ? "" : level)) made.logger->set_level(*parsed);
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
  const auto parsed = parse_level(level);
  require<ConfigError>(parsed || level.empty(), "log level '", level,
                       "' does not exist (FWL_LOG). Use trace, debug, info, warn, error or off.");
  if (parsed) state().logger->set_level(*parsed);
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
