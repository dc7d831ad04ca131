#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/log.h"
#include "data/dataset_folder.h"
#include "data/document_source.h"
#include "data/shard_writer.h"
#include "data/splitting.h"
#include "data/tokenizer.h"
#include "launch/command.h"

namespace fwl {
namespace {

// Source text that is read and tokenized before it is written: bounds the memory.
constexpr int64_t kBytesAtOnce = 64'000'000;

struct TokenizeArguments {
  std::vector<std::string> paths, include, exclude;
  std::string tokenizer, out, split, json_path;
  int64_t shard_tokens = 100'000'000;
  int threads = 0;
  bool overwrite = false;
};

TokenizedDocument tokenize(const DocumentFile& file, const Tokenizer& tokenizer) {
  const std::string text = read_file(file.path, "document");
  TokenizedDocument document{file.name, static_cast<int64_t>(text.size()), {tokenizer.document_start()}};
  const std::vector<int32_t> ids = tokenizer.encode(text);
  document.tokens.insert(document.tokens.end(), ids.begin(), ids.end());
  return document;
}

// Tokenizes documents [begin, begin + count) on all threads; results are in the documents' order.
std::vector<TokenizedDocument> tokenize_some(const std::vector<DocumentFile>& files, size_t begin,
                                             size_t count, const Tokenizer& tokenizer, int threads) {
  std::vector<TokenizedDocument> results(count);
  std::atomic<size_t> next{0};
  std::exception_ptr failure;
  std::mutex failure_mutex;
  const auto work = [&] {
    for (size_t i = next++; i < count; i = next++) {
      try {
        results[i] = tokenize(files[begin + i], tokenizer);
      } catch (...) {
        const std::lock_guard lock(failure_mutex);
        if (!failure) failure = std::current_exception();
        return;
      }
    }
  };
  std::vector<std::thread> pool;
  for (int t = 0; t < std::min(threads, static_cast<int>(count)); ++t) pool.emplace_back(work);
  for (std::thread& thread : pool) thread.join();
  if (failure) std::rethrow_exception(failure);
  return results;
}

// Number of documents from `begin` that are tokenized together.
size_t portion_of(const std::vector<DocumentFile>& files, size_t begin) {
  size_t end = begin;
  for (int64_t bytes = 0; end < files.size() && bytes < kBytesAtOnce; ++end) bytes += files[end].bytes;
  return end - begin;
}

std::vector<std::string> split_names(const std::vector<SplitRange>& ranges) {
  std::vector<std::string> names = {"train"};
  for (const SplitRange& range : ranges) {
    if (range.name != "train") names.push_back(range.name);
  }
  return names;
}

Manifest write_dataset(const TokenizeArguments& a, const std::vector<DocumentFile>& files,
                       const Tokenizer& tokenizer, const std::vector<SplitRange>& ranges) {
  Manifest manifest{
      tokenizer.kind(), to_hex(tokenizer.hash()), tokenizer.vocab_size(), tokenizer.document_start(), {}};
  if (!tokenizer.serialized().empty()) publish_file(a.out + "/" + kTokenizerName, tokenizer.serialized());
  std::map<std::string, ShardWriter> writers;
  for (const std::string& name : split_names(ranges))
    writers.try_emplace(name, a.out, name, manifest, a.shard_tokens);
  const int threads =
      a.threads > 0 ? a.threads : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  for (size_t begin = 0, count = 0; begin < files.size(); begin += count) {
    count = portion_of(files, begin);
    for (TokenizedDocument& document : tokenize_some(files, begin, count, tokenizer, threads)) {
      writers.at(split_of(document.name, ranges)).append(std::move(document));
    }
  }
  for (auto& [name, writer] : writers) manifest.splits[name] = writer.finish();
  write_manifest(a.out, manifest);
  return manifest;
}

double ratio(int64_t a, int64_t b) {
  return b == 0 ? 0 : static_cast<double>(a) / static_cast<double>(b);
}

nlohmann::json report_on(const Manifest& manifest, const std::string& out, double seconds) {
  nlohmann::json report = {{"out", out}, {"seconds", seconds}, {"vocab_size", manifest.vocab_size}};
  int64_t documents = 0, tokens = 0, bytes = 0;
  for (const auto& [name, split] : manifest.splits) {
    std::printf("%-8s %8lld documents %12lld tokens %13lld bytes  %.2f bytes/token  %zu shard(s)\n",
                name.c_str(), static_cast<long long>(split.documents()),
                static_cast<long long>(split.tokens()), static_cast<long long>(split.bytes()),
                ratio(split.bytes(), split.tokens()), split.shards.size());
    if (split.documents() == 0) {
      log_warn(cat("no document fell into split '", name,
                   "' (there are too few). Give more files, or a larger part."));
    }
    report["splits"][name] = {{"documents", split.documents()},
                              {"tokens", split.tokens()},
                              {"bytes", split.bytes()},
                              {"bytes_per_token", ratio(split.bytes(), split.tokens())}};
    documents += split.documents();
    tokens += split.tokens();
    bytes += split.bytes();
  }
  const double speed = static_cast<double>(bytes) / 1e6 / seconds;
  std::printf("%s: %lld documents in %.1f s, %.1f MB/s\n", out.c_str(), static_cast<long long>(documents),
              seconds, speed);
  report.update({{"documents", documents}, {"tokens", tokens}, {"bytes", bytes}, {"mb_per_s", speed}});
  return report;
}

void run_tokenize(const TokenizeArguments& a) {
  const std::vector<SplitRange> ranges = parse_splits(a.split);
  const auto tokenizer = open_tokenizer(a.tokenizer);
  const std::vector<DocumentFile> files = find_documents(a.paths, a.include, a.exclude);
  prepare_dataset_folder(a.out, split_names(ranges),
                         a.overwrite ? ExistingDataset::kReplace : ExistingDataset::kRefuse);
  const auto start = std::chrono::steady_clock::now();
  const Manifest manifest = write_dataset(a, files, *tokenizer, ranges);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  write_json(a.json_path, report_on(manifest, a.out, seconds));
}

}  // namespace

void add_tokenize_command(CLI::App& app) {
  auto a = std::make_shared<TokenizeArguments>();
  CLI::App* command =
      app.add_subcommand("tokenize", "turn text into a data set of HDF5 shards; one document per file");
  command->add_option("paths", a->paths, "files and folders of text")->required()->type_name("FILES_OR_DIRS");
  command->add_option("--tokenizer", a->tokenizer, "a SentencePiece model, or `byte`")
      ->required()
      ->type_name("FILE.model|byte");
  command->add_option("--out", a->out, "folder of the data set")->required()->type_name("DIR");
  command
      ->add_option("--include", a->include, "read only files that match (name or relative path; repeatable)")
      ->type_name("GLOB")
      ->allow_extra_args(false);
  command
      ->add_option("--exclude", a->exclude,
                   "leave out files whose name or relative path matches; may be repeated")
      ->type_name("GLOB")
      ->allow_extra_args(false);
  command
      ->add_option("--split", a->split,
                   "parts by hash of the relative path, e.g. valid=0.02,test=0.02; what is left is train")
      ->type_name("NAME=PART,...");
  command->add_option("--shard-tokens", a->shard_tokens, "tokens per shard")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_option("--threads", a->threads, "0: all cores; the result does not depend on it")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_flag("--overwrite", a->overwrite, "replace a data set that is in --out already");
  add_json_option(*command, a->json_path);
  command->callback([a] { run_tokenize(*a); });
}

}  // namespace fwl
