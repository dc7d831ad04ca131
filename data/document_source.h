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
  int64_t time = 0;        // of its last change, in ns
  std::string split = {};  // that all of its documents go to; empty: decided by their names
  uint64_t device = 0, inode = 0;
};

inline constexpr const char* kStandardInput = "-";

// What a folder holds and find_documents() does not read.
struct SkippedEntries {
  int64_t folders = 0;                // hidden ones and __pycache__
  int64_t repeated = 0;               // links to what is read under another name
  std::vector<std::string> broken;    // links to nothing
  std::vector<std::string> circular;  // links to a folder that holds them, or to themselves
};

// All regular files under `paths` (files, folders, patterns as in a shell, "-" for standard input) whose
// relative path or file name matches one of `includes` (fnmatch patterns; none: all files) and of none of
// `excludes`, sorted by relative path. Hidden folders and __pycache__ are passed over. Symbolic links to
// files and folders are followed, and name what they lead to; each file is read once, under its own name
// where a folder has both, else under the first link's. `skipped` says what was not read. Throws
// UnavailableError for what is missing or cannot be listed, DataError when nothing is found, ConfigError when
// two given paths reach a file.
std::vector<DocumentFile> find_documents(const std::vector<std::string>& paths,
                                         const std::vector<std::string>& includes,
                                         const std::vector<std::string>& excludes = {},
                                         const std::string& stdin_name = "stdin",
                                         SkippedEntries* skipped = nullptr);

// Whether `file` is still as it was listed, as this process sees it; in words why not, else empty.
std::string why_not_the_same(const DocumentFile& file);

// The list as text and back, for a process that did not list.
std::string text_of_files(const std::vector<DocumentFile>& files);
std::vector<DocumentFile> files_of_text(const std::string& text);

// Puts the files into the order of a hash of name and seed: a function of the names alone.
void shuffle_documents(std::vector<DocumentFile>& files, uint64_t seed);

}  // namespace fwl
