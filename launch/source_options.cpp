#include "launch/source_options.h"

#include <CLI/CLI.hpp>
#include <cstdio>

#include "core/base/error.h"
#include "core/base/log.h"

namespace fwl {
namespace {

constexpr size_t kMostNamed = 10;

void warn_of_links(const std::vector<std::string>& links, const char* what) {
  for (size_t i = 0; i < links.size() && i < kMostNamed; ++i)
    log_warn(cat("link '", links[i], "' ", what, ": it is not read."));
  if (links.size() > kMostNamed)
    log_warn(cat(links.size() - kMostNamed, " more links like that are not read."));
}

}  // namespace

void add_filter_options(CLI::App& command, std::vector<std::string>& include,
                        std::vector<std::string>& exclude) {
  command.add_option("--include", include, "read only files that match (name or relative path; repeatable)")
      ->type_name("GLOB")
      ->allow_extra_args(false);
  command
      .add_option("--exclude", exclude,
                  "leave out files whose name or relative path matches; may be repeated")
      ->type_name("GLOB")
      ->allow_extra_args(false);
}

void add_format_options(CLI::App& command, DocumentFormat& format) {
  command
      .add_option("--field", format.field, "of JSON lines: the object's string that is the document's text")
      ->type_name("NAME")
      ->capture_default_str();
  command
      .add_option_function<std::string>(
          "--format",
          [&format](const std::string& name) {
            format.format = name == "text"    ? SourceFormat::kText
                            : name == "jsonl" ? SourceFormat::kJsonLines
                                              : SourceFormat::kAuto;
          },
          "of the sources: text, jsonl (JSON lines), or auto: JSON lines where a name ends in .jsonl, "
          ".ndjson or, "
          "when its lines are objects, .json (any case, compressed or not)")
      ->type_name("FORMAT")
      ->check(CLI::IsMember({"auto", "text", "jsonl"}))
      ->default_str("auto");
  command
      .add_option_function<std::string>(
          "--bad-lines",
          [&format](const std::string& name) {
            format.bad_lines = name == "skip" ? BadLines::kSkip : BadLines::kStop;
          },
          "JSON lines that are damaged or have no text: stop, or skip (they are counted, the first ten are "
          "named)")
      ->type_name("WHAT")
      ->check(CLI::IsMember({"stop", "skip"}))
      ->default_str("stop");
}

void say_what_was_skipped(const SkippedEntries& skipped) {
  if (skipped.repeated + skipped.folders > 0) {
    std::printf(
        "not read: %lld symbolic link(s) to what is read under another name, %lld hidden or __pycache__ "
        "folder(s); name them to read them\n",
        static_cast<long long>(skipped.repeated), static_cast<long long>(skipped.folders));
  }
  warn_of_links(skipped.broken, "leads to nothing");
  warn_of_links(skipped.circular, "leads in a circle");
}

void add_to(SkippedEntries& sum, const SkippedEntries& more) {
  sum.folders += more.folders;
  sum.repeated += more.repeated;
  sum.broken.insert(sum.broken.end(), more.broken.begin(), more.broken.end());
  sum.circular.insert(sum.circular.end(), more.circular.begin(), more.circular.end());
}

void say_bad_lines(int64_t count, const std::vector<BadLine>& first) {
  if (count == 0) return;
  std::printf("%lld bad line(s) were passed over%s\n", static_cast<long long>(count),
              first.empty() ? "" : ", the first:");
  for (const BadLine& line : first)
    std::printf("  %s, line %lld: %s\n", line.file.c_str(), static_cast<long long>(line.line),
                line.problem.c_str());
}

}  // namespace fwl
