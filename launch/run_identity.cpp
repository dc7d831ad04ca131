#include "launch/run_identity.h"

#include <algorithm>
#include <filesystem>
#include <random>

#include "checkpoints/checkpoint.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/log.h"
#include "data/format.h"
#include "launch/run_config.h"

namespace fwl {
namespace {

namespace fs = std::filesystem;

// Empty: from before there were ids, or it cannot be read, which proves nothing either.
std::string id_of_folder(const std::string& run_dir) {
  try {
    const std::string config = run_dir + "/config.yaml";
    if (fs::exists(config)) return parse_run_config(read_file(config, "the run's config"), config).run_id;
    const auto checkpoints = list_checkpoints(run_dir + "/checkpoints");
    return checkpoints.empty() ? std::string() : run_id_of(read_checkpoint_info(checkpoints.front()));
  } catch (const Error&) {
    return {};
  }
}

bool lies_in(const std::string& path, const std::string& folder) {
  const fs::path inner = fs::weakly_canonical(fs::absolute(path)),
                 outer = fs::weakly_canonical(fs::absolute(folder));
  const auto [rest, end] = std::mismatch(inner.begin(), inner.end(), outer.begin(), outer.end());
  return end == outer.end();
}

}  // namespace

std::string new_run_id() {
  std::random_device random;
  return to_hex((static_cast<uint64_t>(random()) << 32) | random());
}

bool holds_run(const std::string& run_dir) {
  return fs::exists(run_dir + "/config.yaml") || fs::exists(run_dir + "/log.jsonl") ||
         !list_checkpoints(run_dir + "/checkpoints").empty();
}

std::string run_id_of(const CheckpointInfo& info) {
  try {
    return parse_run_config(info.config_yaml, info.path).run_id;
  } catch (const ConfigError&) {
    return {};  // check_resume() says what is wrong with it
  }
}

bool is_of_run(const CheckpointInfo& info, const std::string& run_dir) {
  const std::string id = run_id_of(info);
  return lies_in(info.path, run_dir) || (!id.empty() && id == id_of_folder(run_dir));
}

bool set_old_run_aside(const std::string& run_dir) {
  if (!holds_run(run_dir)) return false;
  const std::string folder = fs::canonical(run_dir).string();
  require<ConfigError>(
      !lies_in(fs::current_path().string(), folder), "run.dir '", run_dir,
      "' holds a run, and this program was started in that folder (it would be renamed). Start it "
      "elsewhere, go on with the run by train.resume=auto, or choose another run.dir.");
  int n = 1;
  while (fs::exists(cat(folder, ".previous-", n))) ++n;
  const std::string aside = cat(folder, ".previous-", n);
  std::error_code error;
  fs::rename(folder, aside, error);
  require<ConfigError>(!error, "run.dir '", run_dir, "' holds a run, which cannot be renamed to '", aside,
                       "': ", error.message(),
                       ". Choose another run.dir, or train.resume=auto to go on with it.");
  fs::create_directories(folder);
  fs::remove(aside + "/lock");
  log_info(cat("'", run_dir, "' held a run; it is now '", aside,
               "' (train.resume=auto would have gone on with it)"));
  return true;
}

}  // namespace fwl
