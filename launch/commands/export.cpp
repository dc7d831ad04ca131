#include <CLI/CLI.hpp>
#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "checkpoints/safetensors.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "launch/command.h"
#include "launch/load_model.h"

namespace fwl {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

enum class Existing { kRefuse, kReplace };

// A config section as nested JSON.
template <typename Config>
json json_of(Config& config) {
  json result = json::object();
  const FieldList list = fields_of(config);
  for (const Field& field : list.fields()) {
    std::string path = "/" + field.path;
    std::replace(path.begin(), path.end(), '.', '/');
    std::visit([&](const auto* value) { result[json::json_pointer(path)] = *value; }, field.target);
  }
  return result;
}

constexpr const char* kWeights = "model.safetensors";
constexpr const char* kConfig = "config.json";
constexpr const char* kTokenizer = "tokenizer.model";

void run_export(const std::string& checkpoint, const std::string& out, Existing existing) {
  for (const char* name : {kWeights, kConfig, kTokenizer})
    require<ConfigError>(existing == Existing::kReplace || !fs::exists(fs::path(out) / name), "--out '", out,
                         "' holds ", name,
                         " already (it would be replaced). Choose another folder, or give --overwrite.");
  LoadedModel loaded = load_model({checkpoint, "cpu", ""});
  const std::string problem = nonfinite_problem(nonfinite_parameters(loaded.model->parameters()));
  require<CheckFailed>(problem.empty(), loaded.info.path, ": ", problem,
                       " (nobody could use them; nothing was written). Export another checkpoint.");
  std::error_code error;
  fs::create_directories(out, error);
  require<DataError>(!error, "--out '", out, "' cannot be made: ", error.message(),
                     ". Choose another folder.");
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (const Parameter& parameter : loaded.model->parameters().all())
    tensors.emplace_back(parameter.name, parameter.value);
  const TrainingProgress& progress = loaded.info.progress;
  json config = {{"model_type", "fwl"},
                 {"model", json_of(loaded.config.model)},
                 {"step", progress.step},
                 {"tokens", progress.tokens},
                 {"tokenizer", loaded.info.tokenizer_kind},
                 {"run_config", loaded.info.config_yaml}};
  if (!loaded.info.tokenizer_bytes.empty()) {
    publish_file(cat(out, "/", kTokenizer), loaded.info.tokenizer_bytes);
    config["tokenizer_file"] = kTokenizer;
  }
  write_safetensors(cat(out, "/", kWeights), tensors, {{"format", "pt"}, {"source", "fwl"}});
  publish_file(cat(out, "/", kConfig), json_text(config, 2) + "\n");
  std::cout << "exported " << tensors.size() << " tensors, " << loaded.model->parameters().count()
            << " parameters of step " << progress.step << " to " << out << "\n";
}

}  // namespace

void add_export_command(CLI::App& app) {
  struct Arguments {
    std::string checkpoint, out;
    bool overwrite = false;
  };
  auto a = std::make_shared<Arguments>();
  CLI::App* command = app.add_subcommand(
      "export", "write a checkpoint's weights and config as model.safetensors and config.json");
  command->add_option("checkpoint", a->checkpoint, "a run's folder or one of its checkpoints")
      ->required()
      ->type_name("CHECKPOINT");
  command->add_option("--out", a->out, "folder to write to; made if needed")
      ->required()
      ->type_name("DIR")
      ->check(folder_to_fill());
  command->add_flag("--overwrite", a->overwrite, "replace an export that is in --out already");
  command->callback(
      [a] { run_export(a->checkpoint, a->out, a->overwrite ? Existing::kReplace : Existing::kRefuse); });
}

}  // namespace fwl
