#include "launch/report/reading.h"

#include <cmath>
#include <filesystem>
#include <limits>

#include "core/base/error.h"
#include "core/base/path.h"

namespace fwl {

using nlohmann::json;

Labelled split_label(const std::string& argument) {
  const size_t at = argument.find('=');
  if (at == std::string::npos) return {"", argument};
  require<ConfigError>(at > 0, "'", argument,
                       "' has an empty label (rows and curves are told apart by it). Write LABEL=PATH.");
  return {argument.substr(0, at), expand_home(argument.substr(at + 1))};
}

std::string name_of_path(const std::string& path) {
  std::filesystem::path normal = std::filesystem::path(path).lexically_normal();
  if (!normal.has_filename()) normal = normal.parent_path();
  return normal.extension() == ".json" ? normal.stem().string() : normal.filename().string();
}

double optional_number(const json& object, const std::string& key, const std::string& where) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return std::numeric_limits<double>::quiet_NaN();
  require<DataError>(found->is_number(), where, " has ", found->dump(), " for '", key,
                     "' (a number is needed). Write the file again with this version of fwl.");
  return found->get<double>();
}

double required_number(const json& object, const std::string& key, const std::string& where) {
  require<DataError>(object.contains(key), where, " has no '", key,
                     "' (the report needs it). Write the file again with this version of fwl.");
  return optional_number(object, key, where);
}

std::string optional_text(const json& object, const std::string& key, const std::string& otherwise,
                          const std::string& where) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return otherwise;
  require<DataError>(found->is_string(), where, " has ", found->dump(), " for '", key,
                     "' (a text is needed). Write the file again with this version of fwl.");
  return found->get<std::string>();
}

}  // namespace fwl
