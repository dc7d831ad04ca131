// Paths as people write them.
#pragma once

#include <string>

namespace fwl {

// "~" and "~/x" with $HOME in place of the tilde, which the shell leaves alone in --set KEY=~/x and in a YAML
// file; any other path as it is. Throws ConfigError for "~user" and where $HOME is not set.
std::string expand_home(const std::string& path);

// The same place without doubled slashes, "." and a slash at the end. With ".." or as "." alone it is
// absolute, ".." meaning the parent of where a link leads. A link at the end stays. Throws ConfigError for an
// empty path.
std::string tidy_path(const std::string& path);

// From the root on; links stay.
std::string absolute_path(const std::string& path);

}  // namespace fwl
