// Which run a folder holds. A run has an id from its first start on, `run.id` in its config.yaml and in the
// config of its checkpoints: checkpoints of another run must not be mixed with those that lie in a folder.
#pragma once

#include <string>

#include "checkpoints/manifest.h"

namespace fwl {

// 16 hexadecimal digits, other ones at each call.
std::string new_run_id();

// Whether a run has begun in the folder: it has a config.yaml, a log or a checkpoint.
bool holds_run(const std::string& run_dir);

// Empty for checkpoints from before runs had ids.
std::string run_id_of(const CheckpointInfo& info);
// Whether the run in `run_dir` is the one that the checkpoint is of: it lies in that folder, or has the same
// id.
bool is_of_run(const CheckpointInfo& info, const std::string& run_dir);

// A fresh run in a folder that holds one: the old run is renamed to "DIR.previous-N", never mixed or lost; a
// link to a folder stays, what it leads to is renamed. Returns whether there was one. Throws ConfigError when
// it cannot be done.
bool set_old_run_aside(const std::string& run_dir);

}  // namespace fwl
