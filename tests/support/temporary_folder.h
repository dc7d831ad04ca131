// A folder that lives as long as the object; under the system's temporary folder.
#pragma once

#include <string>

namespace fwl {

class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// Writes `content` to `path`, making folders as needed.
void write_text(const std::string& path, const std::string& content);

}  // namespace fwl
