#include "launch/path_options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>

#include "core/base/path.h"

namespace fwl {
namespace {

bool is_path(const CLI::Option& option) {
  static const std::array<const char*, 11> types = {"FILE",       "DIR",           "PATH",  "FOLDER",
                                                    "CHECKPOINT", "RUN",           "SPLIT", "BENCH.json",
                                                    "TOKENIZER",  "FILES_OR_DIRS", "CONFIG"};
  const std::string type = option.get_type_name();
  return std::any_of(types.begin(), types.end(), [&](const char* name) { return type.rfind(name, 0) == 0; });
}

}  // namespace

void expand_paths(CLI::App& app) {
  for (CLI::Option* option : app.get_options())
    if (is_path(*option)) option->transform([](const std::string& path) { return expand_home(path); }, "");
  for (CLI::App* command : app.get_subcommands({})) expand_paths(*command);
}

}  // namespace fwl
