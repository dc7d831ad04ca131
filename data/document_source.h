// The sources of a data set: which files, under which names, in which order.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace fwl {

struct DocumentFile {
  std::string path;  // to open it
  std::string name;  // relative to the folder that was given, or the file's own name
  int64_t bytes = 0;
};

inline constexpr const char* kStandardInput = "-";

// What a folder holds and find_documents() does not read.
struct SkippedEntries {
  int64_t links = 0, folders = 0;
};

// All regular files under `paths` (files, folders, patterns as in a shell, "-" for standard input) whose
// relative path or file name matches one of `includes` (fnmatch patterns; none: all files) and of none of
// `excludes`, sorted by relative path. Hidden folders and __pycache__ are skipped, symbolic links below the
// named paths are not followed; `skipped` counts both. Throws DataError for a missing path or when nothing is
// found, ConfigError when a file is reached twice.
std::vector<DocumentFile> find_documents(const std::vector<std::string>& paths,
                                         const std::vector<std::string>& includes,
                                         const std::vector<std::string>& excludes = {},
                                         const std::string& stdin_name = "stdin",
                                         SkippedEntries* skipped = nullptr);

// Puts the files into the order of a hash of name and seed: a function of the names alone.
void shuffle_documents(std::vector<DocumentFile>& files, uint64_t seed);

}  // namespace fwl
