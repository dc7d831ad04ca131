// Which split a document belongs to: decided by the hash of its name alone.
#pragma once

#include <string>
#include <vector>

namespace fwl {

struct SplitRange {
  std::string name;
  double begin = 0, end = 0;  // of the hash, scaled to [0, 1)
};

// Parses "valid=0.02,test=0.02"; empty text: everything is train. Throws ConfigError for parts that are no
// numbers in [0, 1], that sum to more than 1, or for repeated or unusable names.
std::vector<SplitRange> parse_splits(const std::string& text);
// The split of a document; `train` where no range holds its hash.
std::string split_of(const std::string& document_name, const std::vector<SplitRange>& ranges);

}  // namespace fwl
