// Whether a run's folder can take what the run will write there: asked before the first step, and before each
// save.
#pragma once

#include <cstdint>
#include <string>

#include "checkpoints/folder.h"
#include "parallel/communicator.h"

namespace fwl {

// A folder of the user's choice that the system refuses: throws SystemError where the same may succeed later
// (a server that rests, a limit of open files), ConfigError where another folder is needed: no right to
// write, a read-only file system, a name that is too long. "PROBLEM: the system's words. ADVICE", `error` an
// errno.
[[noreturn]] void refuse_folder(int error, const std::string& problem, const std::string& advice);

// Makes `checkpoints_dir` and, for a moment, a file in it whose path is as long as that of any file of a
// checkpoint. Throws as refuse_folder(); what may pass is tried for some seconds.
void require_writable(const std::string& checkpoints_dir);

// Collective over `group`. Every rank reads a word that rank 0 writes into `checkpoints_dir`, and writes a
// file of its own there, as it will for each checkpoint; both are removed. Throws, on all ranks, ConfigError
// naming rank and host that see another folder, and as refuse_folder().
void require_shared(const std::string& checkpoints_dir, Communicator& group);

// Throws UnavailableError when the disk has less than `bytes` free for one checkpoint.
void require_room(const std::string& checkpoints_dir, int64_t bytes);

// What lies there at most at a time, of checkpoints that `saves` more saves write.
int64_t most_kept(Retention retention, int64_t saves, int64_t kept_for_good);
// Warns when the disk has no room for `count` checkpoints of `bytes`.
void warn_of_little_room(const std::string& checkpoints_dir, int64_t bytes, int64_t count);

}  // namespace fwl
