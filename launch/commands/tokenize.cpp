#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "core/base/clock.h"
#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/threads.h"
#include "data/dataset_builder.h"
#include "data/document_source.h"
#include "launch/command.h"
#include "launch/number_option.h"
#include "parallel/communicator.h"
#include "parallel/session.h"

namespace fwl {
namespace {

// Ranks may finish hours apart.
constexpr double kBarrierTimeoutS = 30.0 * 24 * 3600;

struct TokenizeArguments {
  std::vector<std::string> paths, include, exclude;
  std::string tokenizer, out, split, json_path, stdin_name = "stdin", compression = "deflate";
  BuildOptions build;
  bool overwrite = false, mpi = false;
  std::optional<int64_t> shuffle;
};

// One line on the terminal, redrawn a few times a second; silent where stderr is none.
class ProgressLine {
 public:
  void operator()(const BuildProgress& p) {
    if (!terminal_ || now_s() - drawn_ < 0.2) return;
    drawn_ = now_s();
    const double elapsed = std::max(drawn_ - start_, 1e-9);
    std::fprintf(stderr, "\r\033[K%s%.1f MB/s", bar(p, elapsed).c_str(),
                 static_cast<double>(p.text_bytes) / 1e6 / elapsed);
    std::fflush(stderr);
  }
  void clear() const {
    if (terminal_) std::fputs("\r\033[K", stderr);
  }

 private:
  static std::string bar(const BuildProgress& p, double elapsed) {
    constexpr int kWidth = 30;
    char text[160];
    if (p.source_total <= 0 || p.source_bytes <= 0) {
      std::snprintf(text, sizeof text, "%.0f MB read  ", static_cast<double>(p.source_bytes) / 1e6);
      return text;
    }
    const double done =
        std::min(1.0, static_cast<double>(p.source_bytes) / static_cast<double>(p.source_total));
    const auto left = static_cast<long long>(elapsed / done * (1 - done));
    const int filled = static_cast<int>(done * kWidth);
    std::snprintf(text, sizeof text, "[%s%s] %3.0f %%  %lld:%02lld:%02lld left  ",
                  std::string(static_cast<size_t>(filled), '#').c_str(),
                  std::string(static_cast<size_t>(kWidth - filled), '.').c_str(), done * 100, left / 3600,
                  left / 60 % 60, left % 60);
    return text;
  }
  bool terminal_ = isatty(STDERR_FILENO) != 0;
  double start_ = now_s(), drawn_ = 0;
};

double ratio(int64_t a, int64_t b) {
  return b == 0 ? 0 : static_cast<double>(a) / static_cast<double>(b);
}

nlohmann::json report_on(const BuildResult& result, const std::string& out, double seconds) {
  const Manifest& manifest = result.manifest;
  nlohmann::json report = {{"out", out},
                           {"seconds", seconds},
                           {"vocab_size", manifest.vocab_size},
                           {"shards_kept", result.shards_kept}};
  int64_t documents = 0, tokens = 0, bytes = 0, invalid = 0;
  for (const auto& [name, split] : manifest.splits) {
    std::printf("%-8s %8lld documents %12lld tokens %13lld bytes  %.2f bytes/token  %zu shard(s)\n",
                name.c_str(), static_cast<long long>(split.documents()),
                static_cast<long long>(split.tokens()), static_cast<long long>(split.bytes()),
                ratio(split.bytes(), split.tokens()), split.shards.size());
    if (split.documents() == 0) {
      log_warn(cat("no document fell into split '", name,
                   "' (there are too few). Give more files, or a larger part."));
    }
    report["splits"][name] = {
        {"documents", split.documents()}, {"tokens", split.tokens()},
        {"bytes", split.bytes()},         {"invalid_utf8_bytes", split.invalid_utf8()},
        {"shards", split.shards.size()},  {"bytes_per_token", ratio(split.bytes(), split.tokens())}};
    documents += split.documents();
    tokens += split.tokens();
    bytes += split.bytes();
    invalid += split.invalid_utf8();
  }
  if (invalid > 0)
    std::printf("%lld bytes are no valid UTF-8; they are kept as byte tokens\n",
                static_cast<long long>(invalid));
  if (result.shards_kept > 0)
    std::printf("%lld shard(s) of an earlier, killed run were kept\n",
                static_cast<long long>(result.shards_kept));
  const double speed = static_cast<double>(result.progress.text_bytes) / 1e6 / seconds;
  std::printf("%s: %lld documents in %.1f s, %.1f MB/s\n", out.c_str(), static_cast<long long>(documents),
              seconds, speed);
  report.update({{"documents", documents},
                 {"tokens", tokens},
                 {"bytes", bytes},
                 {"invalid_utf8_bytes", invalid},
                 {"mb_per_s", speed}});
  return report;
}

void say_what_was_skipped(const SkippedEntries& skipped) {
  if (skipped.links + skipped.folders == 0) return;
  std::printf(
      "not read: %lld symbolic link(s), %lld hidden or __pycache__ folder(s); name them to read them\n",
      static_cast<long long>(skipped.links), static_cast<long long>(skipped.folders));
}

// A pattern that matches nowhere is easily missed: each file then is one document.
void warn_of_idle_pattern(const TokenizeArguments& a, const std::vector<DocumentFile>& files,
                          const BuildResult& result) {
  int64_t documents = 0;
  for (const auto& [name, split] : result.manifest.splits) documents += split.documents();
  const bool cuts =
      documents != static_cast<int64_t>(files.size()) ||
      std::any_of(files.begin(), files.end(), [](const auto& f) { return is_json_lines(f.name); });
  if (!a.build.format.document_start.empty() && !cuts)
    log_warn(cat("--document-start '", a.build.format.document_start,
                 "' cuts no file: there are as many documents as files. Check the pattern."));
}

void run_tokenize(TokenizeArguments& a) {
  BuildOptions& build = a.build;
  build.out = a.out;
  build.ranges = parse_splits(a.split);
  build.compression = parse_compression(a.compression);
  build.existing = a.overwrite ? ExistingDataset::kReplace : ExistingDataset::kRefuse;
  if (build.threads == 0)
    build.threads = thread_share(allowed_cpus(), cpu_quota(), a.mpi ? world().local_size : 1);
  const auto tokenizer = open_tokenizer(a.tokenizer);
  SkippedEntries skipped;
  std::vector<DocumentFile> files = find_documents(a.paths, a.include, a.exclude, a.stdin_name, &skipped);
  if (a.shuffle) shuffle_documents(files, static_cast<uint64_t>(*a.shuffle));
  std::unique_ptr<Communicator> group;
  if (a.mpi) {
    set_log_rank(world().rank, world().size);
    const bool reads_stdin = std::find(a.paths.begin(), a.paths.end(), kStandardInput) != a.paths.end();
    require<ConfigError>(!reads_stdin || world().size == 1,
                         "--mpi cannot read standard input (only one rank has it). Give files.");
    group = make_world_communicator(kBarrierTimeoutS);
    build.rank = world().rank;
    build.ranks = world().size;
    build.barrier = [&group] { group->barrier(); };
    build.any = [&group](bool mine) { return all_reduce_sum(*group, {mine ? 1.0 : 0.0}).front() > 0; };
  }
  ProgressLine line;
  if (build.rank == 0) build.on_progress = [&line](const BuildProgress& p) { line(p); };
  const double start = now_s();
  BuildResult result = build_dataset(files, *tokenizer, build);
  const double seconds = now_s() - start;
  if (group) {
    const std::vector<double> sums = all_reduce_sum(
        *group, {static_cast<double>(result.progress.text_bytes), static_cast<double>(result.shards_kept)});
    result.progress.text_bytes = static_cast<int64_t>(sums[0]);
    result.shards_kept = static_cast<int64_t>(sums[1]);
  }
  if (build.rank != 0) return;
  line.clear();
  say_what_was_skipped(skipped);
  warn_of_idle_pattern(a, files, result);
  write_json(a.json_path, report_on(result, a.out, seconds));
}

void add_source_options(CLI::App& command, TokenizeArguments& a) {
  command
      .add_option(
          "paths", a.paths,
          "files, folders, patterns; .gz and .zst are decompressed, .jsonl has a document a line; - is "
          "standard input")
      ->required()
      ->type_name("FILES_OR_DIRS");
  command
      .add_option("--include", a.include, "read only files that match (name or relative path; repeatable)")
      ->type_name("GLOB")
      ->allow_extra_args(false);
  command
      .add_option("--exclude", a.exclude,
                  "leave out files whose name or relative path matches; may be repeated")
      ->type_name("GLOB")
      ->allow_extra_args(false);
  command
      .add_option("--shuffle", a.shuffle,
                  "take the files in an order that this seed picks (default: that of their names); for "
                  "train.stream, which reads on where it was")
      ->check(whole_number_from(0))
      ->type_name("SEED");
  command.add_option("--field", a.build.format.field, "of the objects in .jsonl files: the document's text")
      ->type_name("NAME")
      ->capture_default_str();
  command
      .add_option("--document-start", a.build.format.document_start,
                  "a document begins with each line that matches, e.g. '^ = [^=]+ = $' (extended regular "
                  "expression; default: one document per file)")
      ->type_name("REGEX");
  command
      .add_option("--stdin-name", a.stdin_name,
                  "name of standard input in the data set; name.jsonl reads it as JSON lines")
      ->type_name("NAME")
      ->capture_default_str();
}

void add_writing_options(CLI::App& command, TokenizeArguments& a) {
  command.add_option("--out", a.out, "folder of the data set; an unfinished one is gone on with")
      ->required()
      ->type_name("DIR");
  command
      .add_option("--split", a.split,
                  "parts by hash of the document's name, e.g. valid=0.02,test=0.02; what is left is train")
      ->type_name("NAME=PART,...");
  command.add_option("--shard-tokens", a.build.shard_tokens, "tokens per shard")
      ->check(whole_number_from(1))
      ->capture_default_str();
  command
      .add_option("--compression", a.compression, "of the shards: deflate, none, or zstd (HDF5 filter 32015)")
      ->type_name("KIND")
      ->capture_default_str();
  command.add_option("--threads", a.build.threads, "0: all cores; the result does not depend on it")
      ->check(whole_number_from(0))
      ->capture_default_str();
  command.add_flag("--mpi", a.mpi,
                   "ranks of an MPI job write shards in parallel; the result does not depend on them");
  command
      .add_option("--group-bytes", a.build.group_bytes,
                  "source bytes that one rank takes at a time, in whole files; 0: 16 x shard-tokens")
      ->check(whole_number_from(0))
      ->capture_default_str();
  command.add_flag("--overwrite", a.overwrite, "replace a data set that is in --out already");
}

}  // namespace

void add_tokenize_command(CLI::App& app) {
  auto a = std::make_shared<TokenizeArguments>();
  a->build.threads = 0;
  CLI::App* command = app.add_subcommand("tokenize", "turn text into a data set of HDF5 shards");
  command->add_option("--tokenizer", a->tokenizer, "a SentencePiece model, or `byte`")
      ->required()
      ->type_name("FILE.model|byte");
  add_source_options(*command, *a);
  add_writing_options(*command, *a);
  add_json_option(*command, a->json_path);
  command->callback([a] { run_tokenize(*a); });
}

}  // namespace fwl
