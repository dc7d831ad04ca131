// Finding the checkpoint to go on from, alike on all ranks.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "checkpoints/checkpoint.h"
#include "parallel/communicator.h"

namespace fwl {

// What to do with a checkpoint whose files are whole.
struct ResumeSteps {
  // Throws ConfigError, alike on all ranks, when the checkpoint must not be used.
  std::function<void(const CheckpointInfo&)> check;
  // Reads what this rank needs. Throws DataError; it may then have read a part.
  std::function<void(CheckpointReader&)> load;
};

// Collective over `group`. `from` is none, auto (the newest good checkpoint of `checkpoints_dir`: damaged
// ones are named and passed over) or the path of a checkpoint or run, which must be good. The ranks share the
// work of checking all files. One that retention of another run removes meanwhile is looked for again.
// Returns what was loaded; nothing when there is no checkpoint. Throws DataError, on all ranks, when none of
// several can be used or the ranks see different checkpoints under one path, and UnavailableError when one of
// those that were tried cannot be read now, or by this user.
std::optional<CheckpointInfo> resume_from(const std::string& from, const std::string& checkpoints_dir,
                                          const ResumeSteps& steps, Communicator& group);

// Collective over `group`. The config of the checkpoint that resume_from() would try first, of those whose
// manifest can be read; empty when there is none.
std::string config_to_resume(const std::string& from, const std::string& checkpoints_dir,
                             Communicator& group);

}  // namespace fwl
