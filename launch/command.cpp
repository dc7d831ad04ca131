#include "launch/command.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "core/base/file.h"
#include "launch/load_model.h"

namespace fwl {

void add_model_options(CLI::App& command, ModelSource& source) {
  command.add_option("checkpoint", source.checkpoint, "a run's folder or one of its checkpoints")
      ->required()
      ->type_name("CHECKPOINT");
  command.add_option("--device", source.device, "auto, cpu or cuda")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}))
      ->capture_default_str();
  command.add_option("--dtype", source.dtype, "type of the matrix products (default: as trained)")
      ->check(CLI::IsMember({"fp64", "fp32", "bf16"}));
}

void add_json_option(CLI::App& command, std::string& path) {
  command.add_option("--json", path, "write the results to this file as JSON")->type_name("FILE");
}

void write_json(const std::string& path, const nlohmann::json& result) {
  if (!path.empty()) publish_file(path, result.dump(2) + "\n");
}

}  // namespace fwl
