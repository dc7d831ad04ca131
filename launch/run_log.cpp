#include "launch/run_log.h"

#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/base/log.h"
#include "parallel/software.h"

namespace fwl {
namespace {

using nlohmann::json;

constexpr const char* kClearLine = "\r\033[K";

json to_json(const LogEntry& e) {
  json line = {{"step", e.step},
               {"tokens", e.tokens},
               {"loss", e.loss},
               {"loss_slow", e.loss_slow},
               {"grad_norm", e.grad_norm},
               {"learning_rate", e.learning_rate},
               {"tokens_per_s", std::round(e.tokens_per_s)},
               {"time_s", e.time_s},
               {"skipped", e.skipped},
               {"data_wait", e.data_wait},
               {"order_hash", e.order_hash},
               {"documents_left_out", e.documents_left_out}};
  if (e.save_blocked_s) line["save_blocked_s"] = *e.save_blocked_s;
  if (e.save_written_s) line["save_written_s"] = *e.save_written_s;
  if (e.total_steps) line["total_steps"] = *e.total_steps;
  if (e.communication) line["communication"] = *e.communication;
  if (e.peak_memory_bytes) line["peak_memory_bytes"] = *e.peak_memory_bytes;
  for (const auto& [rank, seconds] : e.rank_lag_s) line["rank_lag_s"][std::to_string(rank)] = seconds;
  for (const auto& [name, value] : e.step_sizes) line["step_size"][name] = value;
  for (const auto& [name, value] : e.decays) line["decay"][name] = value;
  for (const auto& [name, value] : e.state_norms) line["state_norm"][name] = value;
  for (const auto& [name, value] : e.fast_to_slow) line["fast_to_slow"][name] = value;
  return line;
}

Scalars scalars_of(const LogEntry& e) {
  Scalars scalars = {{"loss/trained", e.loss},
                     {"loss/slow", e.loss_slow},
                     {"optimizer/gradient_norm", e.grad_norm},
                     {"optimizer/learning_rate", e.learning_rate},
                     {"optimizer/skipped", static_cast<double>(e.skipped)},
                     {"speed/tokens_per_s", e.tokens_per_s},
                     {"speed/data_wait", e.data_wait},
                     {"data/tokens", static_cast<double>(e.tokens)}};
  if (e.communication) scalars.emplace_back("speed/communication", *e.communication);
  if (e.save_blocked_s) scalars.emplace_back("speed/save_blocked_s", *e.save_blocked_s);
  if (e.peak_memory_bytes)
    scalars.emplace_back("memory/peak_bytes", static_cast<double>(*e.peak_memory_bytes));
  for (const auto& [name, value] : e.step_sizes) scalars.emplace_back("step_size/" + name, value);
  for (const auto& [name, value] : e.decays) scalars.emplace_back("decay/" + name, value);
  for (const auto& [name, value] : e.state_norms) scalars.emplace_back("state_norm/" + name, value);
  for (const auto& [name, value] : e.fast_to_slow) scalars.emplace_back("fast_to_slow/" + name, value);
  return scalars;
}

Histograms histograms_of(const LogEntry& e) {
  Histograms histograms;
  for (const auto& [name, rows] : e.step_size_rows)
    histograms.emplace_back("step_sizes/" + name, histogram_of(rows));
  return histograms;
}

std::string to_line(const LogEntry& e, int64_t total) {
  char text[256];
  std::snprintf(
      text, sizeof text,
      "step %lld/%lld  tokens %.3gM  loss %.4f (slow %.4f)  norm %.3f  lr %.2e  %.0f tokens/s  %.0f s",
      static_cast<long long>(e.step), static_cast<long long>(total), static_cast<double>(e.tokens) / 1e6,
      e.loss, e.loss_slow, e.grad_norm, e.learning_rate, e.tokens_per_s, e.time_s);
  std::string line = text;
  for (const auto& [name, value] : e.step_sizes) {
    std::snprintf(text, sizeof text, "  eta_%s %.2e", name.c_str(), value);
    line += text;
  }
  if (e.data_wait > 0.01) line += cat("  data_wait ", std::lround(100 * e.data_wait), " %");
  if (e.documents_left_out > 0) line += cat("  left out ", e.documents_left_out);
  if (e.skipped > 0) line += cat("  skipped ", e.skipped);
  return line;
}

void drop_lines_after(const std::string& path, int64_t step) {
  if (!std::filesystem::exists(path)) return;
  std::istringstream lines(read_file(path, "training log"));
  std::string kept;
  for (std::string line; std::getline(lines, line);) {
    const json entry = parse_json(line);
    const bool is_step = entry.is_object() && entry.count("ended") == 0;
    if (is_step && entry.value("step", step + 1) <= step) kept += line + "\n";
  }
  publish_file(path, kept);
}

}  // namespace

RunLog::RunLog(const std::string& run_dir, int64_t resumed_step, int64_t total_steps, EventLog events)
    : path_(run_dir + "/log.jsonl"),
      first_step_(resumed_step),
      total_steps_(total_steps),
      terminal_(isatty(STDERR_FILENO) != 0),
      start_(std::chrono::steady_clock::now()),
      drawn_(start_) {
  drop_lines_after(path_, resumed_step);
  require<DataError>(append_pending(), "cannot write '", path_, "'. Check the folder's permissions.");
  if (events == EventLog::kTensorBoard) events_.emplace(run_dir, resumed_step);
}

// All of the pending lines or, as far as the disk lets us, none: half a line would not be JSON.
bool RunLog::append_pending() {
  std::error_code ignored;
  const auto size_before = std::filesystem::exists(path_) ? std::filesystem::file_size(path_, ignored) : 0;
  std::ofstream file(path_, std::ios::app);
  file << pending_ << std::flush;
  if (file.good()) {
    pending_.clear();
    return true;
  }
  std::filesystem::resize_file(path_, size_before, ignored);
  return false;
}

void RunLog::write(const LogEntry& entry) {
  json line = to_json(entry);
  if (std::exchange(names_program_, false))
    for (const auto& [name, version] : software()) line["program"][name] = version;
  pending_ += json_text(line) + "\n";
  if (!append_pending())
    log_warn(cat("writing '", path_,
                 "' failed. Free space or check the disk; the line is tried again with the next."));
  write_events(entry);
  if (terminal_) std::fputs(kClearLine, stderr);
  log_info(to_line(entry, total_steps_));
}

void RunLog::write_end(const EarlyEnd& end) {
  pending_ +=
      json{{"ended", end.how}, {"step", end.step}, {"why", end.why}, {"checkpoint", end.checkpoint}}.dump(
          -1, ' ', false, json::error_handler_t::replace) +
      "\n";
  if (!append_pending()) log_warn(cat("writing '", path_, "' failed. Free space or check the disk."));
}

void RunLog::write_events(const LogEntry& entry) {
  if (events_ && !events_->write(entry.step, scalars_of(entry), histograms_of(entry)))
    log_warn(cat("writing '", events_->path(),
                 "' failed. Free space or check the disk; the events are tried again with the next."));
}

void RunLog::progress(int64_t step) {
  const auto now = std::chrono::steady_clock::now();
  if (!terminal_ || now - drawn_ < std::chrono::milliseconds(200)) return;
  drawn_ = now;
  std::fprintf(stderr, "%s%s", kClearLine, step < total_steps_ ? bar(step).c_str() : "");
  std::fflush(stderr);
}

std::string RunLog::bar(int64_t step) const {
  constexpr int kWidth = 30;
  const double done = static_cast<double>(step) / static_cast<double>(total_steps_);
  const double elapsed = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  const double left = elapsed / static_cast<double>(std::max<int64_t>(1, step - first_step_)) *
                      static_cast<double>(total_steps_ - step);
  const int filled = static_cast<int>(done * kWidth);
  char text[128];
  std::snprintf(text, sizeof text, "[%s%s] %3.0f %%  step %lld  %d:%02d left",
                std::string(filled, '#').c_str(), std::string(kWidth - filled, '.').c_str(), done * 100,
                static_cast<long long>(step), static_cast<int>(left) / 60, static_cast<int>(left) % 60);
  return text;
}

}  // namespace fwl
