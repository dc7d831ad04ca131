#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/base/clock.h"
#include "core/base/error.h"
#include "core/base/log.h"
#include "core/base/threads.h"
#include "data/dataset_builder.h"
#include "data/document_source.h"
#include "launch/command.h"
#include "launch/number_option.h"
#include "launch/source_options.h"
#include "parallel/communicator.h"
#include "parallel/session.h"
#include "parallel/texts.h"

namespace fwl {
namespace {

// Ranks may finish hours apart.
constexpr double kBarrierTimeoutS = 30.0 * 24 * 3600;

struct TokenizeArguments {
  std::vector<std::string> paths, valid, test, include, exclude;
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

// Whether all documents were given to other splits.
bool leaves_nothing(const std::vector<SplitRange>& ranges) {
  return !ranges.empty() && ranges.back().end >= 1 - 1e-9;
}

void warn_of_empty_split(const TokenizeArguments& a, const std::string& name, int64_t documents) {
  if (name == "train" && leaves_nothing(a.build.ranges)) return;
  const bool can_cut = a.build.format.cut == DocumentCut::kFiles && a.build.format.document_start.empty();
  log_warn(cat("no document fell into split '", name, "' (there are ", documents,
               " documents, and the hash of its name decides where each goes). ",
               can_cut ? "A text file is one document: --documents blocks (or lines) cuts it. "
                       : "Cut them smaller, or give more text. ",
               "Or give text for it in files of its own: --valid, --test."));
}

double ratio(int64_t a, int64_t b) {
  return b == 0 ? 0 : static_cast<double>(a) / static_cast<double>(b);
}

nlohmann::json describe(const SkippedLines& lines) {
  nlohmann::json first = nlohmann::json::array();
  for (const BadLine& line : lines.first)
    first.push_back({{"file", line.file}, {"line", line.line}, {"problem", line.problem}});
  return first;
}

nlohmann::json report_on(const TokenizeArguments& a, const BuildResult& result, double seconds) {
  const Manifest& manifest = result.manifest;
  nlohmann::json report = {{"out", a.out},
                           {"seconds", seconds},
                           {"vocab_size", manifest.vocab_size},
                           {"shards_kept", result.shards_kept}};
  int64_t documents = 0, tokens = 0, bytes = 0, invalid = 0;
  for (const auto& [name, split] : manifest.splits) documents += split.documents();
  for (const auto& [name, split] : manifest.splits) {
    std::printf("%-8s %8lld documents %12lld tokens %13lld bytes  %.2f bytes/token  %zu shard(s)\n",
                name.c_str(), static_cast<long long>(split.documents()),
                static_cast<long long>(split.tokens()), static_cast<long long>(split.bytes()),
                ratio(split.bytes(), split.tokens()), split.shards.size());
    if (split.documents() == 0) warn_of_empty_split(a, name, documents);
    report["splits"][name] = {
        {"documents", split.documents()}, {"tokens", split.tokens()},
        {"bytes", split.bytes()},         {"invalid_utf8_bytes", split.invalid_utf8()},
        {"shards", split.shards.size()},  {"bytes_per_token", ratio(split.bytes(), split.tokens())}};
    tokens += split.tokens();
    bytes += split.bytes();
    invalid += split.invalid_utf8();
  }
  if (result.json_files > 0 && result.text_files > 0)
    std::printf("sources: %lld text, %lld JSON lines\n", static_cast<long long>(result.text_files),
                static_cast<long long>(result.json_files));
  say_bad_lines(manifest.bad_lines, result.skipped_lines.first);
  if (invalid > 0)
    std::printf("%lld bytes are no valid UTF-8; they are kept as byte tokens\n",
                static_cast<long long>(invalid));
  if (result.shards_kept > 0)
    std::printf("%lld shard(s) of an earlier run that did not end were kept\n",
                static_cast<long long>(result.shards_kept));
  const double speed = static_cast<double>(result.progress.text_bytes) / 1e6 / seconds;
  std::printf("%s: %lld documents in %.1f s, %.1f MB/s\n", a.out.c_str(), static_cast<long long>(documents),
              seconds, speed);
  report.update({{"documents", documents},
                 {"tokens", tokens},
                 {"bytes", bytes},
                 {"invalid_utf8_bytes", invalid},
                 {"text_files", result.text_files},
                 {"json_files", result.json_files},
                 {"bad_lines", manifest.bad_lines},
                 {"first_bad_lines", describe(result.skipped_lines)},
                 {"mb_per_s", speed}});
  return report;
}

// A pattern that matches nowhere is easily missed: each file then is one document.
void warn_of_idle_pattern(const TokenizeArguments& a, size_t files, const BuildResult& result) {
  int64_t documents = 0;
  for (const auto& [name, split] : result.manifest.splits) documents += split.documents();
  const bool cuts = documents != static_cast<int64_t>(files) || result.json_files > 0;
  if (!a.build.format.document_start.empty() && !cuts)
    log_warn(cat("--document-start '", a.build.format.document_start,
                 "' cuts no file: there are as many documents as files. Check the pattern."));
}

void require_options_that_fit(const TokenizeArguments& a) {
  const DocumentFormat& format = a.build.format;
  require<ConfigError>(
      a.split.empty() || (a.valid.empty() && a.test.empty()),
      "--split and --valid or --test contradict each other (held-out text is either drawn from "
      "all or given in files of its own). Give one of them.");
  require<ConfigError>(format.document_start.empty() || format.cut == DocumentCut::kFiles,
                       "--document-start and --documents both say where documents begin. Give one of them.");
  require<ConfigError>(format.document_bytes == 0 || format.cut != DocumentCut::kFiles,
                       "--document-bytes has no effect without --documents lines or blocks. Give both.");
  require<ConfigError>(
      format.format != SourceFormat::kJsonLines ||
          (format.document_start.empty() && format.cut == DocumentCut::kFiles),
      "--format jsonl has a document a line: --documents and --document-start have no effect. Leave "
      "them out.");
}

// The document's name, under which `fwl data text` writes it back.
void require_name_of_stdin(const std::string& name) {
  const std::filesystem::path path(name);
  const bool leaves = path.is_absolute() || std::find(path.begin(), path.end(), "..") != path.end();
  require<ConfigError>(path.has_filename() && path.filename() != "." && !leaves, "--stdin-name '", name,
                       "' cannot be a document's name (`fwl data text` could not write it back as a file). "
                       "Give a file's name, such as stdin.txt.");
}

// A pattern that the text itself matches alone.
std::string as_pattern(const std::string& text) {
  std::string pattern;
  for (const char c : text) {
    if (std::string_view("*?[]\\").find(c) != std::string_view::npos) pattern += '\\';
    pattern += c;
  }
  return pattern;
}

// The data set itself is none of its sources, where it lies among them.
std::vector<std::string> without_own_folder(std::vector<std::string> excludes, const TokenizeArguments& a) {
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::path out = fs::weakly_canonical(fs::absolute(a.out), error);
  for (const std::string& path : a.paths) {
    const fs::path relative = out.lexically_relative(fs::weakly_canonical(fs::absolute(path), error));
    if (relative.empty() || *relative.begin() == ".." || *relative.begin() == ".") continue;
    excludes.push_back(as_pattern(relative.string()) + "/*");
    excludes.push_back(as_pattern(relative.string() + kUnfinishedEnding) + "/*");
  }
  return excludes;
}

// Text of `split` from files of its own, behind the others; none of them may be among those.
void add_held_out(const std::vector<std::string>& paths, const std::string& split, const TokenizeArguments& a,
                  std::vector<DocumentFile>& files, SkippedEntries& skipped) {
  if (paths.empty()) return;
  SkippedEntries left;
  std::vector<DocumentFile> own = find_documents(paths, a.include, a.exclude, a.stdin_name, &left);
  std::map<std::pair<uint64_t, uint64_t>, const DocumentFile*> others;
  for (const DocumentFile& file : files) others[{file.device, file.inode}] = &file;
  for (DocumentFile& file : own) {
    const auto other = others.find({file.device, file.inode});
    require<ConfigError>(
        other == others.end(), "--", split, ": '", file.path, "' is text of another split too, as '",
        other == others.end() ? "" : other->second->path,
        "' (held-out text would be trained on). Leave it out there, for instance with --exclude.");
    file.split = split;
  }
  files.insert(files.end(), own.begin(), own.end());
  add_to(skipped, left);
}

std::vector<DocumentFile> list_sources(const TokenizeArguments& a, SkippedEntries& skipped) {
  std::vector<DocumentFile> files =
      find_documents(a.paths, a.include, without_own_folder(a.exclude, a), a.stdin_name, &skipped);
  if (a.shuffle) shuffle_documents(files, static_cast<uint64_t>(*a.shuffle));
  add_held_out(a.valid, "valid", a, files, skipped);
  add_held_out(a.test, "test", a, files, skipped);
  std::vector<std::string> paths;
  for (const DocumentFile& file : files) paths.push_back(file.path);
  require_no_input("--json", a.json_path, paths);
  return files;
}

std::unique_ptr<Communicator> join_ranks(const TokenizeArguments& a, BuildOptions& build) {
  if (!a.mpi) return nullptr;
  set_log_rank(world().rank, world().size);
  for (const auto* const given : {&a.paths, &a.valid, &a.test}) {
    const bool reads_stdin = std::find(given->begin(), given->end(), kStandardInput) != given->end();
    require<ConfigError>(!reads_stdin || world().size == 1,
                         "--mpi cannot read standard input (only one rank has it). Give files.");
  }
  std::unique_ptr<Communicator> group = make_world_communicator(kBarrierTimeoutS);
  build.rank = world().rank;
  build.ranks = world().size;
  Communicator* all = group.get();
  build.barrier = [all] { all->barrier(); };
  build.any = [all](bool mine) { return all_reduce_sum(*all, {mine ? 1.0 : 0.0}).front() > 0; };
  build.from_first = [all](const std::string& mine) { return broadcast_text(*all, mine); };
  return group;
}

void run_tokenize(TokenizeArguments& a) {
  BuildOptions& build = a.build;
  require_options_that_fit(a);
  require_name_of_stdin(a.stdin_name);
  build.out = a.out;
  build.ranges = parse_splits(a.split);
  build.compression = parse_compression(a.compression);
  build.existing = a.overwrite ? ExistingDataset::kReplace : ExistingDataset::kRefuse;
  if (build.threads == 0)
    build.threads = thread_share(allowed_cpus(), cpu_quota(), a.mpi ? world().local_size : 1);
  const std::unique_ptr<Communicator> group = join_ranks(a, build);
  std::unique_ptr<Tokenizer> tokenizer;
  SkippedEntries skipped;
  std::vector<DocumentFile> files;
  const auto open_inputs = [&] {
    tokenizer = open_tokenizer(a.tokenizer);
    if (build.rank == 0) files = list_sources(a, skipped);
  };
  if (group) {
    on_all_ranks(*group, open_inputs);
    require_same_text(*group, "the tokenizer", cat(tokenizer->kind(), tokenizer->hash()));
    // Lists of the others could differ while files come and go; groups are cut from rank 0's.
    const std::string list = broadcast_text(*group, text_of_files(files));
    if (build.rank != 0) files = files_of_text(list);
  } else {
    open_inputs();
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
  warn_of_idle_pattern(a, files.size(), result);
  write_json(a.json_path, report_on(a, result, seconds));
}

void add_source_options(CLI::App& command, TokenizeArguments& a) {
  command
      .add_option("paths", a.paths,
                  "files, folders, patterns; gzip, zstd, bzip2 and xz are decompressed, JSON lines have a "
                  "document a line; - "
                  "is standard input")
      ->required()
      ->type_name("FILES_OR_DIRS");
  add_filter_options(command, a.include, a.exclude);
  command
      .add_option("--shuffle", a.shuffle,
                  "take the files in an order that this seed picks (default: that of their names); for "
                  "train.stream, which reads on where it was")
      ->check(whole_number_from(0))
      ->type_name("SEED");
  add_format_options(command, a.build.format);
  command
      .add_option_function<std::string>(
          "--documents",
          [&a](const std::string& name) {
            a.build.format.cut = name == "lines"    ? DocumentCut::kLines
                                 : name == "blocks" ? DocumentCut::kBlocks
                                                    : DocumentCut::kFiles;
          },
          "of a text file: files (it is one), lines (one each), or blocks (up to blank lines). A corpus of "
          "one file "
          "needs lines or blocks for --split")
      ->type_name("HOW")
      ->check(CLI::IsMember({"files", "lines", "blocks"}))
      ->default_str("files");
  command
      .add_option("--document-bytes", a.build.format.document_bytes,
                  "with --documents lines or blocks: take as many together as make this much text")
      ->type_name("N")
      ->check(whole_number_from(0))
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
  for (auto* const held_out : {&a.valid, &a.test}) {
    const std::string name = held_out == &a.valid ? "valid" : "test";
    command
        .add_option(
            "--" + name, *held_out,
            "text of the split " + name + ", in files of its own: file, folder or pattern (repeatable)")
        ->type_name("PATH")
        ->allow_extra_args(false);
  }
}

void add_writing_options(CLI::App& command, TokenizeArguments& a) {
  command.add_option("--out", a.out, "folder of the data set; an unfinished one is gone on with")
      ->required()
      ->type_name("DIR")
      ->check(folder_to_fill(FolderOf::kDataset));
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
  command.add_flag("--overwrite", a.overwrite,
                   "replace a data set that is in --out already; it stays until the new one is whole");
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
