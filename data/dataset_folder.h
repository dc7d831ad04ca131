// The folder that a new data set is written into.
#pragma once

#include <string>
#include <vector>

namespace fwl {

// Files with which an unfinished data set says how far it is begin with this.
inline constexpr const char* kJournalName = "journal";

enum class ExistingDataset { kRefuse, kReplace };

// Makes `dir` with an empty folder per split. A data set that is there, finished or not, is removed, manifest
// first, when `existing` says so. Throws ConfigError when it may not be replaced, or when `dir` holds
// anything else: other files are never removed.
void prepare_dataset_folder(const std::string& dir, const std::vector<std::string>& splits,
                            ExistingDataset existing);

}  // namespace fwl
