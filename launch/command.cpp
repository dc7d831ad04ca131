#include "launch/command.h"

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>

#include "core/base/file.h"

namespace fwl {

void add_json_option(CLI::App& command, std::string& path) {
  command.add_option("--json", path, "write the results to this file as JSON")->type_name("FILE");
}

void write_json(const std::string& path, const nlohmann::json& result) {
  if (!path.empty()) publish_file(path, result.dump(2) + "\n");
}

}  // namespace fwl
