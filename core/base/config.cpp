#include "core/base/config.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>

#include "core/base/error.h"

namespace fwl {
namespace {

constexpr uintmax_t kMostBytes = uintmax_t{1} << 24;  // of a config

const Field& find_field(const FieldList& list, const std::string& path, const std::string& where) {
  for (const Field& field : list.fields()) {
    if (field.path == path) return field;
  }
  std::vector<std::string> paths;
  for (const Field& field : list.fields()) paths.push_back(field.path);
  const std::string near = nearest_word(path, paths);
  throw ConfigError(
      cat(where, ": unknown key '", path, "' (a mistyped key would be ignored silently). ",
          near.empty() ? "Run with --print-config to see all keys." : cat("Did you mean '", near, "'?")));
}

bool is_section(const FieldList& list, const std::string& path) {
  const std::string prefix = path + ".";
  return std::any_of(list.fields().begin(), list.fields().end(),
                     [&](const Field& f) { return f.path.compare(0, prefix.size(), prefix) == 0; });
}

[[noreturn]] void bad_value(const Field& field, const std::string& text, const std::string& where,
                            const std::string& wanted) {
  throw ConfigError(cat(where, ": ", field.path, " = '", text, "' is not ", wanted, " (", field.help,
                        "). Give ", wanted, "."));
}

std::string text_of(const Range& range) {
  const std::string low = std::isfinite(range.low) ? cat("from ", range.low) : std::string();
  if (!std::isfinite(range.high)) return low.empty() ? "finite" : low + " up, and finite";
  return cat(low, " to ", range.high, range.high_end == Range::End::kOpen ? " (excluded)" : "");
}

void check_range(const Field& field, double value, const std::string& where) {
  const Range& range = field.range;
  const bool below_high = range.high_end == Range::End::kOpen ? value < range.high : value <= range.high;
  require<ConfigError>(std::isfinite(value) && value >= range.low && below_high, where, ": ", field.path,
                       " = ", value, " is out of range (", field.help, "). It must be ", text_of(range), ".");
}

// Whole numbers may be written 1e6, as people do for token counts.
int64_t parse_integer(const Field& field, const std::string& text, const std::string& where) {
  size_t used = 0;
  double value = 0;
  try {
    value = std::stod(text, &used);
  } catch (const std::exception&) {
    bad_value(field, text, where, "a whole number");
  }
  if (used != text.size() || value != std::floor(value) || std::abs(value) > 9e15)
    bad_value(field, text, where, "a whole number");
  check_range(field, value, where);
  return static_cast<int64_t>(value);
}

double parse_number(const Field& field, const std::string& text, const std::string& where) {
  size_t used = 0;
  double value = 0;
  try {
    value = std::stod(text, &used);
  } catch (const std::exception&) {
    bad_value(field, text, where, "a number");
  }
  if (used != text.size()) bad_value(field, text, where, "a number");
  check_range(field, value, where);
  return value;
}

bool parse_bool(const Field& field, const std::string& text, const std::string& where) {
  if (text == "true" || text == "yes" || text == "on" || text == "1") return true;
  if (text == "false" || text == "no" || text == "off" || text == "0") return false;
  bad_value(field, text, where, "true or false");
}

void check_choice(const Field& field, const std::string& text, const std::string& where) {
  if (field.choices.empty() || std::count(field.choices.begin(), field.choices.end(), text) > 0) return;
  std::string all;
  for (const std::string& choice : field.choices) all += (all.empty() ? "" : "|") + choice;
  const std::string near = nearest_word(text, field.choices);
  throw ConfigError(cat(where, ": ", field.path, " = '", text, "' does not exist (", field.help, "). Choose ",
                        all, ".", near.empty() ? "" : cat(" Did you mean '", near, "'?")));
}

void assign(const Field& field, const std::string& text, const std::string& where) {
  if (auto* integer = std::get_if<int64_t*>(&field.target)) {
    **integer = parse_integer(field, text, where);
  } else if (auto* number = std::get_if<double*>(&field.target)) {
    **number = parse_number(field, text, where);
  } else if (auto* flag = std::get_if<bool*>(&field.target)) {
    **flag = parse_bool(field, text, where);
  } else {
    check_choice(field, text, where);
    *std::get<std::string*>(field.target) = text;
  }
}

// What one text has set: path of each key -> where it stands.
using KeyPlaces = std::map<std::string, std::string>;

using KeyAndValue = std::pair<YAML::Node, YAML::Node>;

// The map's own entries, then those that it takes over with `<<`.
std::vector<KeyAndValue> entries_of(const YAML::Node& map, const std::string& where) {
  std::vector<KeyAndValue> own, taken;
  const auto has = [](const std::vector<KeyAndValue>& entries, const std::string& key) {
    return std::any_of(entries.begin(), entries.end(),
                       [&](const KeyAndValue& entry) { return entry.first.Scalar() == key; });
  };
  std::vector<YAML::Node> others;
  for (const auto& entry : map) {
    const std::string place = cat(where, ":", entry.first.Mark().line + 1);
    require<ConfigError>(entry.first.IsScalar(), place,
                         ": a key must be one word. Write `key: value` lines.");
    if (entry.first.Scalar() != "<<") {
      own.emplace_back(entry.first, entry.second);
    } else if (entry.second.IsSequence()) {
      for (const YAML::Node& other : entry.second) others.push_back(other);
    } else {
      others.push_back(entry.second);
    }
  }
  for (const YAML::Node& other : others) {
    require<ConfigError>(other.IsMap(), where, ": `<<` takes over a map. Write `<<: *anchor`.");
    for (const auto& entry : other) {
      const std::string& key = entry.first.Scalar();
      if (!has(own, key) && !has(taken, key)) taken.emplace_back(entry.first, entry.second);
    }
  }
  own.insert(own.end(), taken.begin(), taken.end());
  return own;
}

void note_place(const std::string& path, const std::string& place, KeyPlaces* places) {
  const auto [before, is_new] = places->emplace(path, place);
  require<ConfigError>(is_new, place, ": '", path, "' was given before, at ", before->second,
                       " (one of the two would be ignored silently). Remove one of them.");
}

void apply_node(const FieldList& list, const YAML::Node& node, const std::string& prefix,
                const std::string& where, KeyPlaces* places) {
  require<ConfigError>(node.IsMap(), where, ": '", prefix, "' must be a map of keys (",
                       node.IsSequence() ? "a list" : "a value", " was given). Write `key: value` lines.");
  for (const auto& [key, value] : entries_of(node, where)) {
    const std::string path = prefix.empty() ? key.Scalar() : prefix + "." + key.Scalar();
    const std::string place = cat(where, ":", key.Mark().line + 1);
    note_place(path, place, places);
    if (value.IsMap() || (is_section(list, path) && !value.IsNull())) {
      if (!is_section(list, path)) find_field(list, path, place);
      apply_node(list, value, path, where, places);
    } else if (!(is_section(list, path) && value.IsNull())) {
      const Field& field = find_field(list, path, place);
      require<ConfigError>(value.IsScalar(), place, ": ", path, " needs one value (", field.help, ").");
      assign(field, value.Scalar(), place);
    }
  }
}

// The usual reason why a file that looks right is no YAML.
std::string tab_hint(const std::string& text) {
  std::istringstream lines(text);
  int64_t number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    const size_t first = line.find_first_not_of(" \t");
    if (first != std::string::npos && line.find('\t') < first)
      return cat(" Line ", number, " is indented with a tab, which YAML forbids: use spaces.");
  }
  return {};
}

// The one document of the text; undefined when there is nothing in it.
YAML::Node only_document(const std::string& text, const std::string& where) {
  std::vector<YAML::Node> documents;
  try {
    documents = YAML::LoadAll(text);
  } catch (const YAML::Exception& error) {
    throw ConfigError(cat(where, ": not valid YAML: ", error.what(), ". Correct the line.", tab_hint(text)));
  }
  while (documents.size() > 1 && documents.back().IsNull()) documents.pop_back();
  require<ConfigError>(documents.size() <= 1, where, ":",
                       documents.size() > 1 ? documents[1].Mark().line + 1 : 0,
                       ": a second YAML document begins here (it would be ignored silently). Keep one, "
                       "without `---` between.");
  return documents.empty() ? YAML::Node(YAML::NodeType::Null) : documents.front();
}

// In double quotes, with its bytes as they are.
std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    c == '\n' ? out += "\\n" : c == '\t' ? out += "\\t" : out += c;
  }
  return out + '"';
}

std::string quote_if_needed(const std::string& text) {
  YAML::Emitter emitter;
  emitter << text;
  // Where it quotes, the emitter replaces bytes that are no UTF-8: a path must lead back to its file.
  const std::string emitted = emitter.c_str();
  return YAML::Load(emitted).as<std::string>("") == text ? emitted : quoted(text);
}

std::string number_text(double value) {
  for (int digits = 6; digits <= 17; ++digits) {
    std::ostringstream out;
    out.precision(digits);
    out << value;
    if (std::stod(out.str()) == value) return out.str();
  }
  throw InternalError(cat("cannot print ", value));
}

}  // namespace

void FieldList::push(const std::string& key, FieldTarget target, const std::string& help, Range range,
                     std::vector<std::string> choices) {
  fields_.push_back({prefix_ + key, target, help, range, std::move(choices)});
}
void FieldList::add(const std::string& key, int64_t& target, const std::string& help, Range range) {
  push(key, &target, help, range, {});
}
void FieldList::add(const std::string& key, double& target, const std::string& help, Range range) {
  push(key, &target, help, range, {});
}
void FieldList::add(const std::string& key, bool& target, const std::string& help) {
  push(key, &target, help, {}, {});
}
void FieldList::add(const std::string& key, std::string& target, const std::string& help) {
  push(key, &target, help, {}, {});
}
void FieldList::add_choice(const std::string& key, std::string& target, std::vector<std::string> choices,
                           const std::string& help) {
  push(key, &target, help, {}, std::move(choices));
}

void apply_yaml(const FieldList& list, const std::string& text, const std::string& where) {
  const YAML::Node root = only_document(text, where);
  KeyPlaces places;
  if (!root.IsNull()) apply_node(list, root, "", where, &places);
}

void apply_yaml_file(const FieldList& list, const std::string& path) {
  require<ConfigError>(
      std::filesystem::is_regular_file(path), "config file '", path,
      "' does not exist (nothing says what to train). Give an existing YAML file, for example "
      "launch/configs/tiny.yaml.");
  require<ConfigError>(std::filesystem::file_size(path) <= kMostBytes, "config file '", path,
                       "' has more than ", kMostBytes, " bytes (it is something else). Give a YAML file.");
  std::ifstream in(path);
  std::stringstream text;
  text << in.rdbuf();
  require<ConfigError>(in.good() || in.eof(), "config file '", path,
                       "' cannot be read. Check its permissions.");
  apply_yaml(list, text.str(), path);
}

void apply_setting(const FieldList& list, const std::string& setting) {
  const size_t equals = setting.find('=');
  require<ConfigError>(equals != std::string::npos && equals > 0, "--set '", setting,
                       "' has no '='. Write --set section.key=value.");
  const std::string path = setting.substr(0, equals);
  assign(find_field(list, path, "--set"), setting.substr(equals + 1), "--set");
}

std::string value_text(const Field& field) {
  if (auto* integer = std::get_if<int64_t*>(&field.target)) return std::to_string(**integer);
  if (auto* number = std::get_if<double*>(&field.target)) return number_text(**number);
  if (auto* flag = std::get_if<bool*>(&field.target)) return **flag ? "true" : "false";
  return quote_if_needed(*std::get<std::string*>(field.target));
}

std::string to_yaml(const FieldList& list, HelpComments comments) {
  std::ostringstream out;
  std::vector<std::string> open;  // sections that enclose the line before
  for (const Field& field : list.fields()) {
    std::vector<std::string> parts;
    std::stringstream path(field.path);
    for (std::string part; std::getline(path, part, '.');) parts.push_back(part);
    const std::string key = parts.back();
    parts.pop_back();
    size_t same = 0;
    while (same < std::min(open.size(), parts.size()) && open[same] == parts[same]) ++same;
    for (size_t level = same; level < parts.size(); ++level)
      out << std::string(2 * level, ' ') << parts[level] << ":\n";
    open = parts;
    out << std::string(2 * parts.size(), ' ') << key << ": " << value_text(field);
    if (comments == HelpComments::kInclude && !field.help.empty()) out << "  # " << field.help;
    out << "\n";
  }
  return out.str();
}

std::vector<std::string> differences(const FieldList& left, const FieldList& right) {
  require<InternalError>(left.fields().size() == right.fields().size(),
                         "compared configs of different types");
  std::vector<std::string> found;
  for (size_t i = 0; i < left.fields().size(); ++i) {
    const std::string a = value_text(left.fields()[i]);
    const std::string b = value_text(right.fields()[i]);
    if (a != b) found.push_back(cat(left.fields()[i].path, ": ", a, " -> ", b));
  }
  return found;
}

std::string nearest_word(const std::string& word, const std::vector<std::string>& candidates) {
  const auto distance = [](const std::string& a, const std::string& b) {
    std::vector<size_t> row(b.size() + 1);
    for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
    for (size_t i = 1; i <= a.size(); ++i) {
      size_t diagonal = std::exchange(row[0], i);
      for (size_t j = 1; j <= b.size(); ++j) {
        const size_t replaced = diagonal + (a[i - 1] != b[j - 1]);
        diagonal = std::exchange(row[j], std::min({replaced, row[j] + 1, row[j - 1] + 1}));
      }
    }
    return row.back();
  };
  std::string best;
  size_t best_distance = std::max<size_t>(3, word.size() / 2);
  for (const std::string& candidate : candidates) {
    size_t d = distance(word, candidate);
    // A key given without its section ("steps" for "train.steps") is near to its full path.
    const size_t dot = candidate.rfind('.');
    if (dot != std::string::npos) d = std::min(d, 1 + distance(word, candidate.substr(dot + 1)));
    if (d < best_distance) {
      best_distance = d;
      best = candidate;
    }
  }
  return best;
}

}  // namespace fwl
