// The folder that a new data set is written into.
#pragma once

#include <string>
#include <vector>

namespace fwl {

// Files with which an unfinished data set says how far it is begin with this.
inline constexpr const char* kJournalName = "journal";

inline constexpr const char* kLockName = "journal.lock";

// A data set that will replace another is built in a folder of that name with this behind it.
inline constexpr const char* kUnfinishedEnding = ".unfinished";
// Where the file system cannot exchange two folders in one step, the old one has this behind its name for a
// moment.
inline constexpr const char* kAsideEnding = ".replaced";

// One writer at a time: held while a data set is written, dropped by the kernel with the process. Makes the
// folder. Throws ConfigError when another process holds it; file systems without locks go without. The lock
// goes with the folder when that is renamed.
class WriterLock {
 public:
  explicit WriterLock(const std::string& dir);
  ~WriterLock();
  WriterLock(const WriterLock&) = delete;
  WriterLock& operator=(const WriterLock&) = delete;

 private:
  void release();
  int folder_ = -1, file_ = -1;
};

enum class ExistingDataset { kRefuse, kReplace };

// Makes `dir` with an empty folder per split. A data set that is there, finished or not, is removed, manifest
// first, when `existing` says so; an unfinished one without a shard always is. Throws ConfigError when it may
// not be replaced, or when `dir` holds anything else: other files are never removed.
void prepare_dataset_folder(const std::string& dir, const std::vector<std::string>& splits,
                            ExistingDataset existing);

// Removes what killed processes were writing into the data set `dir`: files under temporary names.
void remove_temporary_files(const std::string& dir);

// A data set is replaced by another that was built beside it, in one step: readers find the old one or the
// new one, whole, at any moment.
//
// Where the one that replaces `dir` is built: "DIR.unfinished", links resolved. Throws ConfigError when `dir`
// holds anything else, or cannot be renamed (a mount point, a folder above without the right to write).
std::string replacement_folder(const std::string& dir);
// Exchanges the folders. Throws UnavailableError; both are as they were then, or finish_exchange() ends it.
void exchange_folders(const std::string& replacement, const std::string& dir);
// Puts `dir` back when a killed exchange_folders() has left it under another name; where file systems
// exchange in one step that never happens.
void finish_exchange(const std::string& dir);
// Removes the folder of a data set; what is none of its files stays, with a warning.
void remove_dataset_folder(const std::string& dir);
bool holds_shards(const std::string& dir);

}  // namespace fwl
