#include "core/base/host.h"

#include <sys/statvfs.h>
#include <unistd.h>

#include <array>

namespace fwl {

std::string host_name() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 && name[0] != '\0' ? name.data() : "localhost";
}

std::optional<double> free_bytes(const std::string& folder) {
  struct statvfs space = {};
  if (::statvfs(folder.c_str(), &space) != 0 || space.f_blocks == 0) return std::nullopt;
  return static_cast<double>(space.f_bavail) * static_cast<double>(space.f_frsize);
}

}  // namespace fwl
