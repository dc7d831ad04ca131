#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <iostream>
#include <memory>

#include "checkpoints/checkpoint.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/log.h"
#include "data/dataset.h"
#include "launch/command.h"
#include "launch/gpt2.h"

namespace fwl {
namespace {

namespace fs = std::filesystem;

constexpr const char* kOwnTokenizer = "tokenizer.model";  // the one of those that this program reads

struct ImportArguments {
  std::string folder, out, tokenizer;
  bool is_foreign = false;
  std::vector<std::string> settings;
};

// The tokenizer that is recorded: the one named, or the data set's that training will use; else the folder's
// own, or bytes where it has none.
std::unique_ptr<Tokenizer> chosen_tokenizer(const ImportArguments& a, const RunConfig& config, bool has_own) {
  if (!a.tokenizer.empty()) return open_tokenizer(a.tokenizer);
  if (config.data.path.empty())
    return has_own ? open_tokenizer(a.folder + "/" + kOwnTokenizer) : make_byte_tokenizer();
  const Split split(config.data.path);
  const Tokenizer& own = split.tokenizer();
  return own.kind() == std::string("byte") ? make_byte_tokenizer()
                                           : make_tokenizer(own.kind(), own.serialized(), config.data.path);
}

std::string list_of(const std::vector<std::string>& names) {
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
  return list;
}

// A model's ids mean the tokens that it was trained with: another vocabulary of a size that fits is nonsense
// to it. What proves a tokenizer is the folder's own, with the same hash.
std::unique_ptr<Tokenizer> tokenizer_for(const ImportArguments& a, const RunConfig& config) {
  const std::vector<std::string> files = tokenizer_files(a.folder);
  const bool has_own = std::find(files.begin(), files.end(), kOwnTokenizer) != files.end();
  const bool is_named = !a.tokenizer.empty() || !config.data.path.empty();
  require<ConfigError>(is_named || has_own || files.empty(), "'", a.folder, "' has a tokenizer of its own (",
                       list_of(files),
                       ") that this program does not read yet, and the model's ids mean its tokens alone. "
                       "Give --tokenizer, and with it "
                       "--foreign-tokenizer when the model is to learn other tokens by training.");
  auto tokenizer = chosen_tokenizer(a, config, has_own);
  require<ConfigError>(tokenizer->vocab_size() <= config.model.vocab_size, "the tokenizer has ",
                       tokenizer->vocab_size(), " tokens, the model ", config.model.vocab_size,
                       " (some would have no embedding). Give the tokenizer that belongs to the model.");
  const std::string name = cat(tokenizer->kind(), " ", to_hex(tokenizer->hash()), ", ",
                               tokenizer->vocab_size(), " tokens, the model has ", config.model.vocab_size);
  const bool is_proven =
      has_own && tokenizer->hash() == open_tokenizer(a.folder + "/" + kOwnTokenizer)->hash();
  require<ConfigError>(
      is_proven || a.is_foreign || files.empty(), "nothing proves that '", a.folder,
      "' was trained with this tokenizer (", name, "), and the folder has another (", list_of(files),
      "); its ids would mean other text. Give its own, or --foreign-tokenizer when the model is to "
      "learn these tokens by training.");
  if (!is_proven)
    log_warn(cat("the tokenizer that is recorded (", name, ") is not known to be the one that '", a.folder,
                 "' was trained with: until it is trained on, its text means nothing to the model"));
  return tokenizer;
}

// A checkpoint at step 0: the weights, and moments that are zero.
std::string write_start(const std::string& checkpoints_dir, Gpt2Import& imported,
                        const Tokenizer& tokenizer) {
  CheckpointInfo info;
  info.config_yaml = to_yaml(fields_of(imported.config));
  info.tokenizer_kind = tokenizer.kind();
  if (info.tokenizer_kind != "byte") info.tokenizer_bytes = tokenizer.serialized();
  Parameters& parameters = imported.model->parameters();
  const Tensor weights = parameters.values().detach(), zeros = at::zeros_like(weights);
  const auto block = [&](const char* kind, const Tensor& flat) {
    return flat_block(kind, parameters, {{0, parameters.count()}}, flat);
  };
  return write_checkpoint(
      checkpoints_dir, info,
      {block("weights", weights), block("first_moments", zeros), block("second_moments", zeros)});
}

void run_import(const ImportArguments& a) {
  require<ConfigError>(!fs::exists(a.out + "/checkpoints") && !fs::exists(a.out + "/config.yaml"), "--out '",
                       a.out, "' holds a run (it would be mixed with the import). Choose another folder.");
  const auto tokenizer = tokenizer_for(a, config_of_gpt2(a.folder, a.settings));  // before a weight is read
  Gpt2Import imported = import_gpt2(a.folder, a.settings);
  imported.config.run_dir = a.out;
  std::error_code error;
  fs::create_directories(a.out, error);
  require<DataError>(!error, "--out '", a.out, "' cannot be made: ", error.message(),
                     ". Choose another folder.");
  const std::string checkpoint = write_start(a.out + "/checkpoints", imported, *tokenizer);
  publish_file(a.out + "/config.yaml", to_yaml(fields_of(imported.config)));
  std::cout << "imported " << imported.model->parameters().count() << " parameters to " << checkpoint
            << "\ntrain it further: fwl train " << a.out << "/config.yaml --set data.path=DIR\n";
}

}  // namespace

void add_import_gpt2_command(CLI::App& app) {
  auto a = std::make_shared<ImportArguments>();
  CLI::App* command =
      app.add_subcommand("import-gpt2",
                         "make a run at step 0 from a Hugging Face GPT-2; the Fast Weight Layer on top "
                         "starts as the identity (with --set model.fast_weight.update=absent there is "
                         "none)");
  command
      ->add_option("folder", a->folder,
                   "holds config.json and model.safetensors, or its shards with their index")
      ->required()
      ->type_name("DIR");
  command->add_option("--out", a->out, "folder of the new run")
      ->required()
      ->type_name("RUN")
      ->check(folder_to_fill());
  command
      ->add_option("--tokenizer", a->tokenizer,
                   "whose ids the model reads: `byte` or a SentencePiece model (default: data.path's, the "
                   "folder's own "
                   "tokenizer.model, or, where the folder has no tokenizer, byte)")
      ->type_name("TOKENIZER");
  command->add_flag(
      "--foreign-tokenizer", a->is_foreign,
      "take that tokenizer although the folder has another: the model learns its tokens by training");
  command
      ->add_option("--set", a->settings,
                   "a key of the run's config: --set model.fast_weight.update=none (repeatable)")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  command->callback([a] { run_import(*a); });
}

}  // namespace fwl
