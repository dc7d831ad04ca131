#include "core/base/path.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "core/base/error.h"

namespace fwl {
namespace {

namespace fs = std::filesystem;

std::string without_last_slash(const fs::path& path) {
  std::string text = path.string();
  while (text.size() > 1 && text.back() == '/') text.pop_back();
  return text;
}

}  // namespace

std::string expand_home(const std::string& path) {
  if (path.empty() || path.front() != '~') return path;
  require<ConfigError>(
      path.size() == 1 || path[1] == '/', "'", path,
      "' begins with '~' and a name (a folder of that name would be made). Write the path out, or './", path,
      "' where that is meant.");
  const char* home = std::getenv("HOME");
  require<ConfigError>(home != nullptr && *home != '\0', "'", path,
                       "' is in the home folder, and HOME is not set. Write the path out.");
  return home + path.substr(1);
}

std::string tidy_path(const std::string& path) {
  require<ConfigError>(!path.empty(),
                       "a path is empty (it would mean the root of the file system). Give a folder.");
  const fs::path given(path);
  const fs::path plain = without_last_slash(given.lexically_normal());
  if (plain != "." && std::find(given.begin(), given.end(), "..") == given.end()) return plain.string();
  std::error_code error;
  const fs::path real = fs::weakly_canonical(fs::absolute(given), error);
  return without_last_slash(error ? fs::absolute(given).lexically_normal() : real);
}

std::string absolute_path(const std::string& path) {
  return path.empty() ? path : without_last_slash(fs::absolute(path).lexically_normal());
}

}  // namespace fwl
