#include <CLI/CLI.hpp>
#include <filesystem>
#include <iostream>
#include <memory>

#include "checkpoints/checkpoint.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "data/dataset.h"
#include "launch/command.h"
#include "launch/gpt2.h"

namespace fwl {
namespace {

namespace fs = std::filesystem;

struct ImportArguments {
  std::string folder, out, tokenizer;
  std::vector<std::string> settings;
};

// The tokenizer whose ids the model reads: the data set's that training will use, or the one named.
std::unique_ptr<Tokenizer> tokenizer_for(const ImportArguments& a, const RunConfig& config) {
  std::unique_ptr<Tokenizer> tokenizer;
  if (!a.tokenizer.empty() || config.data.path.empty()) {
    tokenizer = open_tokenizer(a.tokenizer.empty() ? "byte" : a.tokenizer);
  } else {
    const Split split(config.data.path);
    const Tokenizer& own = split.tokenizer();
    tokenizer = own.kind() == std::string("byte")
                    ? make_byte_tokenizer()
                    : make_tokenizer(own.kind(), own.serialized(), config.data.path);
  }
  require<ConfigError>(tokenizer->vocab_size() <= config.model.vocab_size, "the tokenizer has ",
                       tokenizer->vocab_size(), " tokens, the model ", config.model.vocab_size,
                       " (some would have no embedding). Give the tokenizer that belongs to the model.");
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
  Gpt2Import imported = import_gpt2(a.folder, a.settings);
  imported.config.run_dir = a.out;
  const auto tokenizer = tokenizer_for(a, imported.config);
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
  CLI::App* command = app.add_subcommand(
      "import-gpt2",
      "make a run at step 0 from a Hugging Face GPT-2; the Fast Weight Layer on top starts as the identity (with --set model.fast_weight.update=absent there is "
      "none)");
  command->add_option("folder", a->folder, "holds config.json and model.safetensors")
      ->required()
      ->type_name("DIR");
  command->add_option("--out", a->out, "folder of the new run")->required()->type_name("RUN");
  command
      ->add_option(
          "--tokenizer", a->tokenizer,
          "whose ids the model reads: `byte` or a SentencePiece model (default: data.path's, or byte)")
      ->type_name("TOKENIZER");
  command
      ->add_option("--set", a->settings,
                   "a key of the run's config: --set model.fast_weight.update=none (repeatable)")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  command->callback([a] { run_import(*a); });
}

}  // namespace fwl
