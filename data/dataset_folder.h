// The folder that a new data set is written into.
#pragma once

#include <string>
#include <vector>

namespace fwl {

// Files with which an unfinished data set says how far it is begin with this.
inline constexpr const char* kJournalName = "journal";

inline constexpr const char* kLockName = "journal.lock";

// One writer at a time: held while a data set is written, dropped by the kernel with the process. Makes the
// folder. Throws ConfigError when another process holds it; file systems without locks go without.
class WriterLock {
 public:
  explicit WriterLock(const std::string& dir);
  ~WriterLock();
  WriterLock(const WriterLock&) = delete;
  WriterLock& operator=(const WriterLock&) = delete;

 private:
  std::string path_;
  int fd_ = -1;
};

enum class ExistingDataset { kRefuse, kReplace };

// Makes `dir` with an empty folder per split. A data set that is there, finished or not, is removed, manifest
// first, when `existing` says so. Throws ConfigError when it may not be replaced, or when `dir` holds
// anything else: other files are never removed.
void prepare_dataset_folder(const std::string& dir, const std::vector<std::string>& splits,
                            ExistingDataset existing);

// Removes what killed processes were writing into the data set `dir`: files under temporary names.
void remove_temporary_files(const std::string& dir);

}  // namespace fwl
