#include "data/splitting.h"

#include <algorithm>
#include <cctype>
#include <sstream>

#include "core/base/error.h"
#include "core/base/hash.h"

namespace fwl {
namespace {

double parse_part(const std::string& text, const std::string& item) {
  size_t used = 0;
  double part = -1;
  try {
    part = std::stod(text, &used);
  } catch (const std::exception&) {
    used = 0;
  }
  require<ConfigError>(used == text.size() && !text.empty() && part >= 0 && part <= 1, "--split '", item,
                       "': '", text, "' is no part from 0 to 1. Write NAME=PART,NAME=PART.");
  return part;
}

bool is_usable_name(const std::string& name) {
  return !name.empty() && name.front() != '.' && std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 || c == '_' || c == '-' || c == '.';
  });
}

}  // namespace

std::vector<SplitRange> parse_splits(const std::string& text) {
  std::vector<SplitRange> ranges;
  std::stringstream items(text);
  double begin = 0;
  for (std::string item; std::getline(items, item, ',');) {
    const size_t equals = item.find('=');
    require<ConfigError>(equals != std::string::npos, "--split '", item,
                         "' has no '='. Write NAME=PART,NAME=PART.");
    const std::string name = item.substr(0, equals);
    require<ConfigError>(is_usable_name(name), "--split: '", name,
                         "' cannot be a folder's name. Use letters, digits, '_', '-' and '.'.");
    const bool repeated =
        std::any_of(ranges.begin(), ranges.end(), [&](const SplitRange& r) { return r.name == name; });
    require<ConfigError>(!repeated, "--split names '", name, "' twice. Give each split once.");
    const double part = parse_part(item.substr(equals + 1), item);
    ranges.push_back({name, begin, begin + part});
    begin += part;
  }
  require<ConfigError>(begin <= 1 + 1e-9, "--split: the parts sum to ", begin,
                       ", above 1 (there is no more text than all of it). Lower them.");
  return ranges;
}

std::string split_of(const std::string& document_name, const std::vector<SplitRange>& ranges) {
  const double position = static_cast<double>(hash_bytes(document_name) >> 11) * 0x1.0p-53;
  for (const SplitRange& range : ranges) {
    if (position >= range.begin && position < range.end) return range.name;
  }
  return "train";
}

}  // namespace fwl
