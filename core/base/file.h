// Whole files: reading one, and publishing one so that a reader never sees half of it.
#pragma once

#include <string>

namespace fwl {

// Content of the file. Throws DataError (path, cause) when it cannot be read; `what` names the kind of file.
std::string read_file(const std::string& path, const std::string& what);
// Throws DataError when `path` is a folder, device or pipe: renaming a file to it would replace it.
void require_replaceable(const std::string& path);
// Writes `content` to a temporary name in the same folder, syncs it, renames it to `path` and syncs the
// folder. Throws DataError with the system's cause, or as require_replaceable; the temporary file is removed
// and `path` is left as it was.
void publish_file(const std::string& path, const std::string& content);
// Flushes a file's or a folder's data to the disk. Throws DataError.
void sync_path(const std::string& path);

}  // namespace fwl
