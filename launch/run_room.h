// Whether a run's folder can take what the run will write there: asked before the first step, and before each
// save.
#pragma once

#include <cstdint>
#include <string>

#include "checkpoints/folder.h"

namespace fwl {

// Makes `checkpoints_dir` and, for a moment, a file in it whose path is as long as that of any file of a
// checkpoint. Throws ConfigError with the system's cause: no right to write, a read-only file system, a name
// that is too long.
void require_writable(const std::string& checkpoints_dir);

// Throws UnavailableError when the disk has less than `bytes` free for one checkpoint.
void require_room(const std::string& checkpoints_dir, int64_t bytes);

// What lies there at most at a time, of checkpoints that `saves` more saves write.
int64_t most_kept(Retention retention, int64_t saves, int64_t kept_for_good);
// Warns when the disk has no room for `count` checkpoints of `bytes`.
void warn_of_little_room(const std::string& checkpoints_dir, int64_t bytes, int64_t count);

}  // namespace fwl
