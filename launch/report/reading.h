// What the report's readers share: arguments with a label, and numbers of JSON with errors that name the
// place.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace fwl {

struct Labelled {
  std::string label, value;
};

// Splits "LABEL=VALUE" at the first '='; without one the label is empty. Throws ConfigError for an empty
// label before an '='.
Labelled split_label(const std::string& argument);
// The last part of a path, without the ending of a file's name.
std::string name_of_path(const std::string& path);

// The number under `key`; NaN when it is absent or null (JSON has no NaN). Throws DataError (`where`) for
// anything else. `object` must be an object.
double optional_number(const nlohmann::json& object, const std::string& key, const std::string& where);
// The same; DataError when the key is absent.
double required_number(const nlohmann::json& object, const std::string& key, const std::string& where);
// A text, or `otherwise`.
std::string optional_text(const nlohmann::json& object, const std::string& key, const std::string& otherwise,
                          const std::string& where);

}  // namespace fwl
