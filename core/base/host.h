// What this host says of itself.
#pragma once

#include <optional>
#include <string>

namespace fwl {

// Its name, for messages; "localhost" where the system has none.
std::string host_name();
// Bytes that this user may still fill on the disk of `folder`; none where the file system does not tell.
std::optional<double> free_bytes(const std::string& folder);

}  // namespace fwl
