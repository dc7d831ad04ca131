// JSON that no writer of ours would put where a reader of ours looks.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace fwl {

// In place of any value of a manifest they are refused, or do no harm: other types, and numbers and texts
// beyond what is sane.
inline const std::vector<nlohmann::json>& hostile_values() {
  using nlohmann::json;
  static const std::vector<json> values = {nullptr,
                                           true,
                                           -1,
                                           1e300,
                                           1.5,
                                           "",
                                           "x",
                                           json::array(),
                                           json::object(),
                                           uint64_t{1} << 63,
                                           int64_t{1} << 43,
                                           int64_t{1} << 46,
                                           int64_t{1} << 62,
                                           std::string(100, 'x')};
  return values;
}

}  // namespace fwl
