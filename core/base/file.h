// Whole files: reading one, and publishing one so that a reader never sees half of it.
#pragma once

#include <string>

namespace fwl {

// Content of the file. Throws DataError (path, cause) when it cannot be read; `what` names the kind of file.
std::string read_file(const std::string& path, const std::string& what);
// Writes `content` to a temporary name in the same folder, syncs it, renames it to `path` and syncs the
// folder. Throws DataError with the system's cause; the temporary file is removed and `path` is left as it
// was.
void publish_file(const std::string& path, const std::string& content);
// Flushes a file's or a folder's data to the disk. Throws DataError.
void sync_path(const std::string& path);

}  // namespace fwl
