// Whole files: reading one, and publishing one so that a reader never sees half of it.
#pragma once

#include <cstdint>
#include <string>

namespace fwl {

// Content of the file; `what` names its kind. Throws UnavailableError (SystemError: path, the system's words)
// when it cannot be read, DataError when it is no regular file or has more than `most_bytes`.
std::string read_file(const std::string& path, const std::string& what,
                      int64_t most_bytes = int64_t{1} << 30);
// Whether symbolic links lead from `dir`/`file` to outside of `dir`: what is there may be changed by whoever
// does not know of `dir`. False where nothing is there.
bool leads_outside(const std::string& dir, const std::string& file);
// Throws DataError when `path` is a folder, device or pipe: renaming a file to it would replace it.
void require_replaceable(const std::string& path);
// Writes `content` to a temporary name in the same folder, syncs it, renames it to `path` and syncs the
// folder. Throws DataError with the system's cause, or as require_replaceable; the temporary file is removed
// and `path` is left as it was.
void publish_file(const std::string& path, const std::string& content);
// Flushes a file's or a folder's data to the disk. Throws DataError. Some file systems cannot do that for
// folders: said once, and passed over.
void sync_path(const std::string& path);

}  // namespace fwl
