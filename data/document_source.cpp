#include "data/document_source.h"

#include <fnmatch.h>
#include <glob.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "core/base/error.h"
#include "core/base/hash.h"

namespace fwl {
namespace {

namespace fs = std::filesystem;

// fnmatch's `*` crosses folders: "site-packages/*" matches all that is below.
bool matches_any(const std::string& relative, const std::vector<std::string>& patterns) {
  const std::string name = fs::path(relative).filename().string();
  return std::any_of(patterns.begin(), patterns.end(), [&](const std::string& pattern) {
    return fnmatch(pattern.c_str(), relative.c_str(), 0) == 0 ||
           fnmatch(pattern.c_str(), name.c_str(), 0) == 0;
  });
}

// What is found on the way.
struct Found {
  std::vector<DocumentFile> files;
  SkippedEntries skipped;
};

struct NameFilter {
  const std::vector<std::string>& includes;
  const std::vector<std::string>& excludes;
  bool accepts(const std::string& relative) const {
    return (includes.empty() || matches_any(relative, includes)) && !matches_any(relative, excludes);
  }
};

bool is_skipped_folder(const fs::path& folder) {
  const std::string name = folder.filename().string();
  return name == "__pycache__" || name.front() == '.';
}

void add_folder(const std::string& folder, const NameFilter& filter, Found& found) {
  for (auto it = fs::recursive_directory_iterator(folder); it != fs::recursive_directory_iterator(); ++it) {
    found.skipped.links += it->is_symlink() ? 1 : 0;
    if (it->is_symlink()) continue;
    if (it->is_directory()) {
      found.skipped.folders += is_skipped_folder(it->path()) ? 1 : 0;
      if (is_skipped_folder(it->path())) it.disable_recursion_pending();
      continue;
    }
    if (!it->is_regular_file()) continue;
    const std::string relative = it->path().lexically_relative(folder).generic_string();
    if (!filter.accepts(relative)) continue;
    found.files.push_back({it->path().string(), relative, static_cast<int64_t>(it->file_size())});
  }
}

void add_path(const std::string& path, const NameFilter& filter, Found& found) {
  require<DataError>(fs::exists(path), "'", path, "' does not exist. Give existing files or folders.");
  try {
    if (fs::is_directory(path)) {
      add_folder(path, filter, found);
    } else {
      require<DataError>(fs::is_regular_file(path), "'", path,
                         "' is neither a file nor a folder. Give text files.");
      const std::string name = fs::path(path).filename().string();
      if (filter.accepts(name))
        found.files.push_back({path, name, static_cast<int64_t>(fs::file_size(path))});
    }
  } catch (const fs::filesystem_error& error) {
    throw DataError(cat("'", path, "' cannot be listed: ", error.what(), ". Check its permissions."));
  }
}

void require_each_once(const std::vector<DocumentFile>& files) {
  std::set<std::string> seen;
  for (const DocumentFile& file : files) {
    require<ConfigError>(
        seen.insert(fs::weakly_canonical(file.path).string()).second, "'", file.path,
        "' is reached by two of the given paths (its text could be in two splits). Name each once.");
  }
}

// The files that a shell's pattern stands for; the path itself when it exists or is no pattern.
std::vector<std::string> expand(const std::string& path) {
  if (fs::exists(path) || path.find_first_of("*?[") == std::string::npos) return {path};
  glob_t found{};
  const int code = glob(path.c_str(), 0, nullptr, &found);
  std::vector<std::string> paths(found.gl_pathv, found.gl_pathv + (code == 0 ? found.gl_pathc : 0));
  globfree(&found);
  require<DataError>(!paths.empty(), "'", path, "' matches no file. Check the pattern.");
  return paths;
}

}  // namespace

std::vector<DocumentFile> find_documents(const std::vector<std::string>& paths,
                                         const std::vector<std::string>& includes,
                                         const std::vector<std::string>& excludes,
                                         const std::string& stdin_name, SkippedEntries* skipped) {
  Found found;
  std::vector<DocumentFile>& files = found.files;
  for (const std::string& given : paths) {
    if (given == kStandardInput) files.push_back({given, stdin_name, 0});
    if (given == kStandardInput) continue;
    for (const std::string& path : expand(given)) add_path(path, NameFilter{includes, excludes}, found);
  }
  require<DataError>(!files.empty(), "no file was found in ",
                     paths.empty() ? "nothing" : "'" + paths.front() + "'",
                     paths.size() > 1 ? " and the other paths" : "",
                     includes.empty() && excludes.empty() ? "" : " that --include and --exclude leave",
                     " (there is no text). Check the paths and patterns.");
  std::stable_sort(files.begin(), files.end(),
                   [](const DocumentFile& a, const DocumentFile& b) { return a.name < b.name; });
  require_each_once(files);
  if (skipped != nullptr) *skipped = found.skipped;
  return files;
}

void shuffle_documents(std::vector<DocumentFile>& files, uint64_t seed) {
  const auto place = [seed](const DocumentFile& file) { return hash_bytes(file.name, mix_bits(seed)); };
  std::stable_sort(files.begin(), files.end(),
                   [&](const DocumentFile& a, const DocumentFile& b) { return place(a) < place(b); });
}

}  // namespace fwl
