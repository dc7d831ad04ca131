#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/base/error.h"
#include "core/base/file.h"
#include "data/document_source.h"
#include "data/format.h"
#include "data/tokenizer.h"
#include "data/tokenizer_training.h"
#include "launch/command.h"
#include "launch/number_option.h"

namespace fwl {
namespace {

struct TokenizerArguments {
  std::vector<std::string> paths, include, exclude;
  std::string out, json_path;
  TokenizerTraining training;
};

void run_train(const TokenizerArguments& a) {
  const auto start = std::chrono::steady_clock::now();
  const std::vector<DocumentFile> documents = find_documents(a.paths, a.include, a.exclude);
  const std::string model = train_sentencepiece(documents, a.training);
  const auto tokenizer = make_tokenizer("sentencepiece", model, a.out);
  publish_file(a.out, model);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::printf("%s: %lld pieces from %zu documents, %.1f s\n", a.out.c_str(),
              static_cast<long long>(tokenizer->vocab_size()), documents.size(), seconds);
  write_json(a.json_path, {{"model", a.out},
                           {"vocab_size", tokenizer->vocab_size()},
                           {"documents", documents.size()},
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
  train->add_option("--out", a->out, "model file to write")->required()->type_name("FILE.model");
  train
      ->add_option("--include", a->include,
                   "read only files whose name or relative path matches; may be repeated")
      ->type_name("GLOB")
      ->allow_extra_args(false);
  train
      ->add_option("--exclude", a->exclude,
                   "leave out files whose name or relative path matches; may be repeated")
      ->type_name("GLOB")
      ->allow_extra_args(false);
  train
      ->add_option("--field", a->training.format.field, "of the objects in .jsonl files: the document's text")
      ->type_name("NAME")
      ->capture_default_str();
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
