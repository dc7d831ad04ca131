// Configuration without reflection: a config struct lists its fields once (`visit_fields`), and that list is
// enough to parse YAML, apply `a.b=c` settings, print, compare and hash.
//
//   struct ModelConfig {
//     int64_t layers = 8;
//     std::string norm = "rms";
//     void visit_fields(FieldList& list) {
//       list.add("layers", layers, "transformer blocks", at_least(1));
//       list.add_choice("norm", norm, {"rms", "layer"}, "normalisation of the body");
//       list.section("fast_weight", fast_weight);   // any struct with visit_fields
//     }
//   };
//
// Unknown keys, keys given twice, wrong types and values out of range throw ConfigError; an unknown key names
// the nearest one. Numbers are finite.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace fwl {

// Range of a finite number: without its high end when that is open, where the end itself would divide by
// zero.
struct Range {
  enum class End { kClosed, kOpen };
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  End high_end = End::kClosed;
};
inline Range at_least(double low) {
  return {low, std::numeric_limits<double>::infinity()};
}
inline Range between(double low, double high) {
  return {low, high};
}
inline Range from_to_below(double low, double high) {
  return {low, high, Range::End::kOpen};
}

using FieldTarget = std::variant<int64_t*, double*, bool*, std::string*>;

struct Field {
  std::string path;  // dotted: "model.fast_weight.chunk"
  FieldTarget target;
  std::string help;
  Range range;
  std::vector<std::string> choices;  // of a string field; empty: any string
};

// The fields of one config object, in declaration order. Holds pointers into the object: use it while that
// lives.
class FieldList {
 public:
  void add(const std::string& key, int64_t& target, const std::string& help, Range range = {});
  void add(const std::string& key, double& target, const std::string& help, Range range = {});
  void add(const std::string& key, bool& target, const std::string& help);
  void add(const std::string& key, std::string& target, const std::string& help);
  void add_choice(const std::string& key, std::string& target, std::vector<std::string> choices,
                  const std::string& help);
  template <typename Section>
  void section(const std::string& key, Section& part) {
    const std::string outer = std::exchange(prefix_, prefix_ + key + ".");
    part.visit_fields(*this);
    prefix_ = outer;
  }
  const std::vector<Field>& fields() const { return fields_; }

 private:
  void push(const std::string& key, FieldTarget target, const std::string& help, Range range,
            std::vector<std::string> choices);
  std::string prefix_;
  std::vector<Field> fields_;
};

template <typename Config>
FieldList fields_of(Config& config) {
  FieldList list;
  config.visit_fields(list);
  return list;
}

// Sets the fields named in YAML text, one document; `where` names the text in errors. Keys left out keep
// their value. `<<: *anchor` takes the other map's keys that the map itself does not have.
void apply_yaml(const FieldList& list, const std::string& text, const std::string& where);
// Reads a YAML file and applies it. Throws ConfigError when the file does not exist or is no YAML map.
void apply_yaml_file(const FieldList& list, const std::string& path);
// Applies one "a.b=value".
void apply_setting(const FieldList& list, const std::string& setting);
// All fields as YAML, nested as their paths are, with the help text as a comment when `with_help`.
enum class HelpComments { kOmit, kInclude };
std::string to_yaml(const FieldList& list, HelpComments comments = HelpComments::kOmit);
// Value of one field as YAML prints it.
std::string value_text(const Field& field);
// "path: left -> right" for every field whose value differs. Both lists come from the same type.
std::vector<std::string> differences(const FieldList& left, const FieldList& right);

// The candidate with the smallest edit distance to `word`; empty when none is near.
std::string nearest_word(const std::string& word, const std::vector<std::string>& candidates);

}  // namespace fwl
