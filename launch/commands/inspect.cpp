#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>

#include "checkpoints/checkpoint.h"
#include "core/base/error.h"
#include "core/base/hdf5.h"
#include "core/base/hex.h"
#include "core/base/json.h"
#include "launch/command.h"
#include "launch/data_inspection.h"

namespace fwl {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

bool looks_like_checkpoint(const std::string& path) {
  if (!fs::is_directory(path)) return false;
  return step_of_name(fs::path(path).filename().string()) >= 0 || fs::is_directory(path + "/checkpoints") ||
         !list_checkpoints(path).empty();
}

json describe_checkpoint(const std::string& path) {
  const auto reader =
      with_checkpoint(path, [](const std::string& step_dir) { return CheckpointReader(step_dir); });
  const CheckpointInfo& info = reader.info();
  int64_t parameters = 0, bytes = 0;
  for (const auto& [name, tensor] : reader.manifest().tensors)
    if (name.rfind("weights/", 0) == 0) parameters += tensor.elements();
  for (const auto& [name, file] : reader.manifest().files) bytes += file.bytes;
  return {{"kind", "checkpoint"},
          {"path", info.path},
          {"step", info.progress.step},
          {"tokens", info.progress.tokens},
          {"samples", info.progress.samples},
          {"skipped", info.progress.skipped},
          {"rolling_hash", to_hex(info.data.rolling_hash)},
          {"learning_rate", info.learning_rate.next},
          {"written_by",
           {{"ranks", info.layout.ranks},
            {"data", info.layout.data},
            {"sequence", info.layout.sequence},
            {"shard_optimizer", info.layout.shard_optimizer},
            {"device", info.layout.device},
            {"program", info.program}}},
          {"parameters", parameters},
          {"tensors", reader.manifest().tensors.size()},
          {"files", reader.manifest().files.size()},
          {"tokenizer", info.tokenizer_kind},
          {"bytes", bytes},
          {"config", info.config_yaml}};
}

struct Verdict {
  std::string problem;                  // empty when every byte is right
  bool is_unavailable = false;          // it could not be read: whether it is damaged is not known
  std::vector<std::string> not_finite;  // tensors
};

Verdict verdict_of(const std::string& step_dir) {
  try {
    CheckpointReader reader(step_dir);
    reader.check_files();
    return {{}, false, reader.check_slices()};
  } catch (const DataError& error) {
    return {error.what(), false, {}};
  } catch (const UnavailableError& error) {
    return {error.what(), true, {}};
  }
}

// "weights/a, weights/b and 12 more"
std::string some_of(const std::vector<std::string>& names) {
  constexpr size_t kNamed = 4;
  std::string text;
  for (size_t i = 0; i < std::min(kNamed, names.size()); ++i) text += (i > 0 ? ", " : "") + names[i];
  return names.size() > kNamed ? cat(text, " and ", names.size() - kNamed, " more") : text;
}

std::string text_of(const Verdict& verdict) {
  if (!verdict.problem.empty()) return verdict.problem;
  return verdict.not_finite.empty() ? "good" : "not finite: " + some_of(verdict.not_finite);
}

std::vector<std::string> checkpoints_at(const std::string& path) {
  if (step_of_name(fs::path(path).filename().string()) >= 0) return {path};
  for (const std::string& dir : {path + "/checkpoints", path}) {
    auto all = list_checkpoints(dir);
    if (!all.empty()) return all;
  }
  return {find_checkpoint(path)};
}

// Checks every byte of the checkpoint, or of all checkpoints of the run. Throws DataError, after the report,
// when one is damaged, UnavailableError when one cannot be read, CheckFailed when one holds what is not
// finite.
void verify_checkpoints(const std::string& path, const std::string& json_path) {
  require<DataError>(fs::exists(path), "'", path, "' does not exist. Give a run's folder or a checkpoint.");
  json report = {{"kind", "verification"}, {"checkpoints", json::array()}};
  int damaged = 0, unavailable = 0, not_finite = 0;
  for (const std::string& step_dir : checkpoints_at(path)) {
    const Verdict verdict = verdict_of(step_dir);
    const bool good = verdict.problem.empty() && verdict.not_finite.empty();
    std::cout << step_dir << ": " << text_of(verdict) << "\n";
    report["checkpoints"].push_back({{"path", step_dir},
                                     {"good", good},
                                     {"unavailable", verdict.is_unavailable},
                                     {"problem", good ? "" : text_of(verdict)},
                                     {"not_finite", verdict.not_finite}});
    unavailable += verdict.is_unavailable ? 1 : 0;
    damaged += verdict.problem.empty() || verdict.is_unavailable ? 0 : 1;
    not_finite += verdict.not_finite.empty() ? 0 : 1;
  }
  for (const std::string& dir : {path + "/checkpoints", path})
    for (const std::string& unfinished : list_unfinished(dir))
      std::cout << unfinished << ": unfinished, never read\n";
  report["damaged"] = damaged;
  report["unavailable"] = unavailable;
  report["not_finite"] = not_finite;
  write_json(json_path, report);
  require<DataError>(damaged == 0, damaged, " of ", report["checkpoints"].size(), " checkpoints of '", path,
                     "' are damaged (see above). train.resume=auto passes over them; remove them.");
  require<UnavailableError>(
      unavailable == 0, unavailable, " of ", report["checkpoints"].size(), " checkpoints of '", path,
      "' cannot be read now, or not by this user (see above; whether they are damaged is "
      "not known). Remedy that and look again.");
  require<CheckFailed>(
      not_finite == 0, not_finite, " of ", report["checkpoints"].size(), " checkpoints of '", path,
      "' hold numbers that are not finite (the run had diverged). train.resume=auto passes over "
      "them; remove them.");
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
      std::cout << indent << key << ": " << (item.is_string() ? item.get<std::string>() : json_text(item))
                << "\n";
    }
  }
}

}  // namespace

void add_inspect_command(CLI::App& app) {
  struct Arguments {
    std::string path, json_path;
    bool verify = false;
  };
  auto a = std::make_shared<Arguments>();
  CLI::App* command =
      app.add_subcommand("inspect", "say what a data set, shard, tokenizer or checkpoint holds");
  command->add_option("path", a->path, "file or folder")->required()->type_name("PATH");
  command->add_flag("--verify", a->verify,
                    "check every byte of a checkpoint, or of all checkpoints of a run");
  add_json_option(*command, a->json_path);
  command->callback([a] {
    if (a->verify) return verify_checkpoints(a->path, a->json_path);
    const json description = describe(a->path);
    print(description, "");
    write_json(a->json_path, description);
  });
}

}  // namespace fwl
