#include <CLI/CLI.hpp>
#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "checkpoints/checkpoint.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/hdf5.h"
#include "launch/command.h"
#include "launch/data_inspection.h"

namespace fwl {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

bool looks_like_checkpoint(const std::string& path) {
  if (!fs::is_directory(path)) return false;
  return fs::exists(path + "/state.h5") || fs::is_directory(path + "/checkpoints") ||
         !list_checkpoints(path).empty();
}

json describe_checkpoint(const std::string& path) {
  const CheckpointInfo info = read_checkpoint_info(find_checkpoint(path));
  const json manifest = json::parse(read_file(info.path + "/manifest.json", "checkpoint manifest"));
  int64_t parameters = 0;
  for (const json& tensor : manifest.at("tensors")) {
    int64_t count = 1;
    for (const int64_t size : tensor.at("shape")) count *= size;
    parameters += count;
  }
  return {{"kind", "checkpoint"},
          {"path", info.path},
          {"step", info.progress.step},
          {"tokens", info.progress.tokens},
          {"samples", info.progress.samples},
          {"skipped", info.progress.skipped},
          {"parameters", parameters},
          {"tensors", manifest.at("tensors").size()},
          {"tokenizer", info.tokenizer_kind},
          {"bytes", fs::file_size(info.path + "/state.h5")},
          {"config", info.config_yaml}};
}

json describe(const std::string& path) {
  require<DataError>(fs::exists(path), "'", path,
                     "' does not exist. Give a data set, shard, tokenizer or checkpoint.");
  if (looks_like_checkpoint(path)) return describe_checkpoint(path);
  if (looks_like_dataset(path)) return describe_dataset(path);
  if (looks_like_shard(path)) return describe_shard(path);
  if (looks_like_tokenizer(path)) return describe_tokenizer(path);
  throw DataError(cat("'", path, "' is no data set, shard, tokenizer or checkpoint of fwl. Check the path."));
}

// Nested objects are indented; text of several lines stands below its key.
void print(const json& value, const std::string& indent) {
  for (const auto& [key, item] : value.items()) {
    if (item.is_object()) {
      std::cout << indent << key << ":\n";
      print(item, indent + "  ");
    } else if (item.is_string() && item.get<std::string>().find('\n') != std::string::npos) {
      std::cout << indent << key << ":\n" << item.get<std::string>();
    } else {
      std::cout << indent << key << ": " << (item.is_string() ? item.get<std::string>() : item.dump())
                << "\n";
    }
  }
}

}  // namespace

void add_inspect_command(CLI::App& app) {
  struct Arguments {
    std::string path, json_path;
  };
  auto a = std::make_shared<Arguments>();
  CLI::App* command =
      app.add_subcommand("inspect", "say what a data set, shard, tokenizer or checkpoint holds");
  command->add_option("path", a->path, "file or folder")->required()->type_name("PATH");
  add_json_option(*command, a->json_path);
  command->callback([a] {
    const json description = describe(a->path);
    print(description, "");
    write_json(a->json_path, description);
  });
}

}  // namespace fwl
