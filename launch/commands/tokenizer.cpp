#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/base/clock.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "data/document_source.h"
#include "data/format.h"
#include "data/tokenizer.h"
#include "data/tokenizer_training.h"
#include "launch/command.h"
#include "launch/number_option.h"
#include "launch/source_options.h"

namespace fwl {
namespace {

struct TokenizerArguments {
  std::vector<std::string> paths, include, exclude;
  std::string out, json_path;
  TokenizerTraining training;
  bool overwrite = false;
};

// The tokenizer that is there; nothing when there is none.
std::unique_ptr<Tokenizer> tokenizer_at(const std::string& path) {
  try {
    return make_tokenizer("sentencepiece", read_file(path, "tokenizer"), path);
  } catch (const DataError&) {
    return nullptr;
  }
}

// Data sets and runs name their tokenizer by its hash: another one under the same name would fit none of
// them. Training is deterministic, so the same command may be given again.
void require_may_replace(const TokenizerArguments& a) {
  if (a.overwrite || !std::filesystem::exists(a.out)) return;
  const auto there = tokenizer_at(a.out);
  require<ConfigError>(there != nullptr, "--out '", a.out,
                       "' is there and is no tokenizer (it would be replaced). Choose another file, or give "
                       "--overwrite.");
  require<ConfigError>(there->vocab_size() == a.training.vocab_size, "--out '", a.out,
                       "' holds a tokenizer of ", there->vocab_size(),
                       " pieces (data sets may be made with it). Choose another file, or give --overwrite.");
}

void require_same_or_new(const TokenizerArguments& a, const std::string& model) {
  if (a.overwrite || !std::filesystem::exists(a.out)) return;
  require<ConfigError>(
      read_file(a.out, "tokenizer") == model, "--out '", a.out,
      "' holds another tokenizer (data sets may be made with it). It stays. Choose another file, or "
      "give --overwrite.");
}

void run_train(const TokenizerArguments& a) {
  const double start = now_s();
  SkippedEntries skipped;
  const std::vector<DocumentFile> documents =
      find_documents(a.paths, a.include, a.exclude, "stdin", &skipped);
  std::vector<std::string> inputs;
  for (const DocumentFile& file : documents) inputs.push_back(file.path);
  require_no_input("--out", a.out, inputs);
  require_no_input("--json", a.json_path, inputs);
  require_may_replace(a);
  SkippedLines bad_lines;
  const std::string model = train_sentencepiece(documents, a.training, &bad_lines);
  const auto tokenizer = make_tokenizer("sentencepiece", model, a.out);
  require_same_or_new(a, model);
  publish_file(a.out, model);
  const double seconds = now_s() - start;
  say_what_was_skipped(skipped);
  say_bad_lines(bad_lines.count, bad_lines.first);
  std::printf("%s: %lld pieces from %zu documents, %.1f s\n", a.out.c_str(),
              static_cast<long long>(tokenizer->vocab_size()), documents.size(), seconds);
  write_json(a.json_path, {{"model", a.out},
                           {"vocab_size", tokenizer->vocab_size()},
                           {"documents", documents.size()},
                           {"bad_lines", bad_lines.count},
                           {"hash", to_hex(tokenizer->hash())},
                           {"seconds", seconds}});
}

}  // namespace

void add_tokenizer_command(CLI::App& app) {
  CLI::App* tokenizer = app.add_subcommand("tokenizer", "make a tokenizer");
  tokenizer->require_subcommand(1);
  auto a = std::make_shared<TokenizerArguments>();
  CLI::App* train = tokenizer->add_subcommand(
      "train", "train SentencePiece BPE with byte fallback; lossless, deterministic");
  train->add_option("paths", a->paths, "files and folders of text")->required()->type_name("FILES_OR_DIRS");
  train->add_option("--vocab-size", a->training.vocab_size, "pieces of the vocabulary, 256 bytes among them")
      ->required()
      ->type_name("N");
  train->add_option("--out", a->out, "model file to write")
      ->required()
      ->type_name("FILE.model")
      ->check(file_in_a_folder());
  train->add_flag("--overwrite", a->overwrite, "replace another tokenizer that is in --out already");
  add_filter_options(*train, a->include, a->exclude);
  add_format_options(*train, a->training.format);
  train
      ->add_option("--sample-bytes", a->training.sample_bytes,
                   "train on about this much of the text, chosen by hash")
      ->check(whole_number_from(1))
      ->type_name("N")
      ->capture_default_str();
  add_json_option(*train, a->json_path);
  train->callback([a] { run_train(*a); });
}

}  // namespace fwl
