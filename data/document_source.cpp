#include "data/document_source.h"

#include <dirent.h>
#include <fnmatch.h>
#include <glob.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>
#include <set>
#include <sstream>
#include <utility>

#include "core/base/error.h"
#include "core/base/hash.h"
#include "core/base/system_error.h"

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

using Identity = std::pair<uint64_t, uint64_t>;  // device, inode

Identity identity_of(const struct stat& status) {
  return {static_cast<uint64_t>(status.st_dev), static_cast<uint64_t>(status.st_ino)};
}

int64_t time_of(const struct stat& status) {
  return static_cast<int64_t>(status.st_mtim.tv_sec) * 1'000'000'000 + status.st_mtim.tv_nsec;
}

// Whether `folder` is `path` or one of the folders that hold it.
bool holds(const fs::path& folder, const fs::path& path) {
  const auto end = std::mismatch(folder.begin(), folder.end(), path.begin(), path.end()).first;
  return end == folder.end();
}

// Walks what was given. Links wait until all that lies there under its own name is found.
class Finder {
 public:
  explicit Finder(const NameFilter& filter) : filter_(filter) {}

  void add_path(const std::string& path) {
    struct stat status {};
    const int error = ::stat(path.c_str(), &status) == 0 ? 0 : errno;
    require<UnavailableError>(
        error == 0, "'", path, error == ENOENT ? "' does not exist" : "' cannot be read: ",
        error == ENOENT ? "" : std::strerror(error), ". Give existing files or folders.");
    require<DataError>(S_ISDIR(status.st_mode) || S_ISREG(status.st_mode), "'", path,
                       "' is neither a file nor a folder. Give text files.");
    if (S_ISREG(status.st_mode)) {
      const std::string name = fs::path(path).filename().string();
      if (fs::is_symlink(path)) {
        links_.push_back({path, name});
      } else {
        add_file(path, name, status, /*by_link=*/false);
      }
    } else if (fs::is_symlink(fs::path(path))) {
      links_.push_back({path, ""});
    } else {
      walk(path, "", status);
    }
  }

  // The files, each once, sorted by name.
  std::vector<DocumentFile> take() {
    while (!links_.empty()) {
      std::vector<Link> links = std::exchange(links_, {});
      std::sort(links.begin(), links.end(), [](const Link& a, const Link& b) { return a.name < b.name; });
      for (const Link& link : links) follow(link);
    }
    std::stable_sort(files_.begin(), files_.end(),
                     [](const DocumentFile& a, const DocumentFile& b) { return a.name < b.name; });
    return std::move(files_);
  }
  SkippedEntries take_skipped() { return std::move(skipped_); }

 private:
  struct Link {
    std::string path, name;
  };

  void add_file(const std::string& path, const std::string& name, const struct stat& status, bool by_link) {
    if (!filter_.accepts(name)) return;
    // Said before the first file is read, not when its turn comes.
    const int error = ::access(path.c_str(), R_OK) == 0 ? 0 : errno;
    if (error != 0) throw SystemError(error, cat("document '", path, "' cannot be opened"));
    const auto [place, is_new] = found_.try_emplace(identity_of(status), path);
    if (!is_new && by_link) {
      skipped_.repeated += 1;
      return;
    }
    // Two names of one file on the disk (hard links) are two files; one name that is reached twice is a
    // mistake.
    require<ConfigError>(
        is_new || (status.st_nlink > 1 && fs::weakly_canonical(path) != fs::weakly_canonical(place->second)),
        "'", path,
        "' is reached by two of the given paths (its text could be in two splits). Name each once.");
    files_.push_back({path, name, static_cast<int64_t>(status.st_size), time_of(status), "",
                      static_cast<uint64_t>(status.st_dev), static_cast<uint64_t>(status.st_ino)});
  }

  void walk(const std::string& folder, const std::string& relative, const struct stat& status,
            bool by_link = false) {
    walked_.insert(identity_of(status));
    for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
      const std::string path = entry.path().string();
      const std::string own = entry.path().filename().string();
      const std::string name = relative.empty() ? own : relative + "/" + own;
      if (entry.is_symlink()) {
        links_.push_back({path, name});
        continue;
      }
      const bool is_folder = entry.is_directory();
      if (is_folder && is_skipped_folder(entry.path())) {
        skipped_.folders += 1;
        continue;
      }
      if (!is_folder && !entry.is_regular_file()) continue;
      struct stat inner {};
      if (::stat(path.c_str(), &inner) != 0) {
        const int error = errno;
        throw SystemError(error, cat("'", path, "' cannot be read"));
      }
      if (is_folder && !(by_link && walked_.count(identity_of(inner)) > 0)) walk(path, name, inner, by_link);
      if (!is_folder) add_file(path, name, inner, by_link);
    }
  }

  void follow(const Link& link) {
    struct stat status {};
    const int error = ::stat(link.path.c_str(), &status) == 0 ? 0 : errno;
    if (error == ELOOP) return skipped_.circular.push_back(link.path);
    if (error == ENOENT || error == ENOTDIR || error == ENAMETOOLONG)
      return skipped_.broken.push_back(link.path);
    if (error != 0 && matches_any(link.name, filter_.excludes)) return;
    if (error != 0) throw SystemError(error, cat("the link '", link.path, "' cannot be followed"));
    if (S_ISREG(status.st_mode)) return add_file(link.path, link.name, status, /*by_link=*/true);
    if (!S_ISDIR(status.st_mode)) return;
    if (!link.name.empty() && is_skipped_folder(link.path)) {
      skipped_.folders += 1;
      return;
    }
    const fs::path from = fs::canonical(fs::absolute(link.path).parent_path());
    if (!link.name.empty() && holds(fs::canonical(link.path), from))
      return skipped_.circular.push_back(link.path);
    if (walked_.count(identity_of(status)) > 0) {
      skipped_.repeated += 1;
      return;
    }
    walk(link.path, link.name, status, /*by_link=*/true);
  }

  const NameFilter& filter_;
  std::vector<DocumentFile> files_;
  std::map<Identity, std::string> found_;
  std::set<Identity> walked_;
  std::vector<Link> links_;
  SkippedEntries skipped_;
};

// The path that glob() was refused first, and why. It takes functions without a state.
thread_local std::pair<std::string, int> refused_path;

// What is not there matches nothing; behind what cannot be looked at may lie what the pattern means.
template <typename Result>
Result noted(Result result, bool failed, const char* path) {
  const int error = errno;
  const bool is_missing = error == ENOENT || error == ENOTDIR || error == ELOOP || error == ENAMETOOLONG;
  if (failed && !is_missing && refused_path.second == 0) refused_path = {path, error};
  errno = error;
  return result;
}

glob_t noting_glob() {
  glob_t found{};
  found.gl_opendir = [](const char* path) -> void* {
    DIR* folder = ::opendir(path);
    return noted(folder, folder == nullptr, path);
  };
  found.gl_readdir = [](void* folder) { return ::readdir(static_cast<DIR*>(folder)); };
  found.gl_closedir = [](void* folder) { ::closedir(static_cast<DIR*>(folder)); };
  found.gl_stat = [](const char* path, struct stat* status) {
    const int code = ::stat(path, status);
    return noted(code, code != 0, path);
  };
  found.gl_lstat = [](const char* path, struct stat* status) {
    const int code = ::lstat(path, status);
    return noted(code, code != 0, path);
  };
  return found;
}

// The files that a shell's pattern stands for; the path itself when it exists or is no pattern.
std::vector<std::string> expand(const std::string& path) {
  if (fs::exists(path) || path.find_first_of("*?[") == std::string::npos) return {path};
  refused_path = {};
  glob_t found = noting_glob();
  const int code = glob(path.c_str(), GLOB_ALTDIRFUNC, nullptr, &found);
  std::vector<std::string> paths(found.gl_pathv, found.gl_pathv + (code == 0 ? found.gl_pathc : 0));
  globfree(&found);
  const auto& [refused, error] = refused_path;
  if (error != 0)
    throw SystemError(error, cat("'", refused, "', which '", path, "' may mean, cannot be read"));
  require<UnavailableError>(code != GLOB_NOSPACE, "'", path,
                            "': no memory for the files that match. Free memory, or give the folder.");
  require<UnavailableError>(!paths.empty(), "'", path, "' matches no file. Check the pattern.");
  return paths;
}

}  // namespace

std::vector<DocumentFile> find_documents(const std::vector<std::string>& paths,
                                         const std::vector<std::string>& includes,
                                         const std::vector<std::string>& excludes,
                                         const std::string& stdin_name, SkippedEntries* skipped) {
  const NameFilter filter{includes, excludes};
  Finder finder(filter);
  std::vector<DocumentFile> files;
  try {
    for (const std::string& given : paths) {
      if (given == kStandardInput) continue;
      for (const std::string& path : expand(given)) finder.add_path(path);
    }
    files = finder.take();
  } catch (const fs::filesystem_error& error) {
    throw UnavailableError(cat("'", error.path1().string(), "' cannot be listed: ", error.code().message(),
                               ". Check its permissions."));
  }
  const auto streams = std::count(paths.begin(), paths.end(), kStandardInput);
  require<ConfigError>(streams <= 1, "'-' is given ", streams,
                       " times (standard input can be read once). Name it once.");
  if (streams == 1) files.push_back({kStandardInput, stdin_name, 0});
  const SkippedEntries left = finder.take_skipped();
  require<DataError>(!files.empty(), "no file was found in ",
                     paths.empty() ? "nothing" : "'" + paths.front() + "'",
                     paths.size() > 1 ? " and the other paths" : "",
                     includes.empty() && excludes.empty() ? "" : " that --include and --exclude leave",
                     left.broken.empty() ? "" : cat("; '", left.broken.front(), "' is a link to nothing"),
                     " (there is no text). Check the paths and patterns.");
  std::stable_sort(files.begin(), files.end(),
                   [](const DocumentFile& a, const DocumentFile& b) { return a.name < b.name; });
  if (skipped != nullptr) *skipped = left;
  return files;
}

std::string why_not_the_same(const DocumentFile& file) {
  if (file.path == kStandardInput) return "";
  struct stat status {};
  if (::stat(file.path.c_str(), &status) != 0) return std::strerror(errno);
  if (status.st_size != file.bytes) return cat("has ", status.st_size, " bytes here, ", file.bytes, " there");
  if (time_of(status) != file.time) return "was changed at another time than there";
  return "";
}

std::string text_of_files(const std::vector<DocumentFile>& files) {
  std::string text;  // no path holds a zero byte
  for (const DocumentFile& f : files) {
    for (const std::string& part : {f.path, f.name, std::to_string(f.bytes), std::to_string(f.time), f.split})
      (text += part) += '\0';
  }
  return text;
}

std::vector<DocumentFile> files_of_text(const std::string& text) {
  std::vector<DocumentFile> files;
  std::istringstream in(text);
  const auto part = [&in] {
    std::string value;
    std::getline(in, value, '\0');
    return value;
  };
  while (in.peek() != std::char_traits<char>::eof()) {
    DocumentFile file;
    file.path = part();
    file.name = part();
    file.bytes = std::stoll(part());
    file.time = std::stoll(part());
    file.split = part();
    files.push_back(file);
  }
  return files;
}

void shuffle_documents(std::vector<DocumentFile>& files, uint64_t seed) {
  const auto place = [seed](const DocumentFile& file) { return hash_bytes(file.name, mix_bits(seed)); };
  std::stable_sort(files.begin(), files.end(),
                   [&](const DocumentFile& a, const DocumentFile& b) { return place(a) < place(b); });
}

}  // namespace fwl
